"""One file a family: numbers of a clip, without an interval and without a judgement."""
