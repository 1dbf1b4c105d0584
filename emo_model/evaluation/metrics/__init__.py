"""One file a family; each `measure(...)` turns a clip into numbers by name, without an interval and without a judgement."""
