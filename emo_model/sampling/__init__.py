"""Living room: noise schedule, samplers, guidance, and the clip loop where everything meets."""
