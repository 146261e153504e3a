"""Outgrowing a machine: the same server on a rented one, in a container, or as a process of its own.

```text
launch             start a server once, wait until it answers, hand out its client
launch_plan        what is to be started where, what it costs, and the files that start it by hand
launched_server    a server that was started: its client, whether it runs, how it ends
server_record      what this machine keeps of it: its key, its log, and a lock
target             what a place must be able to do; own_process, docker and hf_jobs are the three
loopback_port      where a server of this machine answers
process_identity   which process that was, when its number is another's by now
```
"""

from __future__ import annotations

from .launch import launch, plan_launch
from .launch_plan import LaunchPlan
from .launched_server import LaunchedServer

__all__ = ["LaunchPlan", "LaunchedServer", "launch", "plan_launch"]
