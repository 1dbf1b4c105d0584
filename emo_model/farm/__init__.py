"""Many videos on several ComfyUI servers: a table of jobs, a journal, and a thread per server.

`table` and `graph` turn a CSV file and a workflow in API form into jobs; `host` talks to one ComfyUI; `journal`
remembers over runs what was sent and what is done; `files` gives a finished video its name; `farm` decides which server
renders what.
"""
