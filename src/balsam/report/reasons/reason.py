"""The reasons: short words, which stay the same for programs that read them."""

from __future__ import annotations

from enum import StrEnum, auto


class Reason(StrEnum):
    """What a job waits for. The word is the name in small letters."""

    NONE = ""  #: nothing of this layer
    SETTLING = auto()  #: its next state is being settled, which takes a moment
    FINISHED = auto()  #: it is done
    KILLED = auto()  #: a user stopped it
    FAILED = auto()  #: it failed, and is not tried again
    PARENT_FAILED = auto()  #: it did not run, because a job that it depends on failed
    RUNNING = auto()  #: it runs
    STEP = auto()  #: a launcher has it between two steps: files, a hook, a handler
    FILES = auto()  #: the service moves its files, or will
    FILES_UNMOVED = auto()  #: its files are to be moved, and nobody is there who does
    IN_STOCK = auto()  #: a launcher has taken it, and starts it when a place is free
    LAUNCHER_LOST = auto()  #: the launcher that had it gives no sign of life
    PARENTS = auto()  #: parents have to end first
    RETRY_WAIT = auto()  #: the time of its retry has not come
    APP_MISSING = auto()  #: its app is not registered any more, or has no executable
    BUSY = auto()  #: a launcher can run it, but has no free place
    STARTING = auto()  #: a launcher has room, and can take it at any moment
    NOT_TAKEN = auto()  #: a launcher seems to have room, and does not take it
    TOO_FEW_NODES = auto()  #: launchers or batch jobs have fewer nodes than it needs
    NODE_TOO_SMALL = auto()  #: their nodes have too few cores or GPUs, or too little memory
    TOO_LITTLE_TIME = auto()  #: too little of their time is left
    SERIAL_ONLY = auto()  #: they take only jobs of one rank
    OTHER_WORKFLOW = auto()  #: they take only jobs of other workflows
    OTHER_TAGS = auto()  #: they take only jobs with other tags
    OTHER_OWNER = auto()  #: they take only another user's jobs
    BATCH_JOB_STARTING = auto()  #: a batch job has nodes; its launcher has not started yet
    BATCH_JOB_QUEUED = auto()  #: a batch job waits in the batch system
    BATCH_JOB_HELD = auto()  #: a batch job is held in the batch system
    BATCH_JOB_NOT_SUBMITTED = auto()  #: a batch job is recorded, and not submitted yet
    BATCH_JOB_UNKNOWN = auto()  #: the batch system says something else of a batch job
    SUBMIT_FAILED = auto()  #: the batch system refused the last request
    IMPOSSIBLE = auto()  #: nothing that is known here could ever run it
    QUEUE_LIMITS = auto()  #: no queue allows what it needs
    SERVICE_DOWN = auto()  #: the service is down
    SERVICE_TROUBLE = auto()  #: the batch system does not answer the service, a setting is wrong, …
    ELASTIC_OFF = auto()  #: the service does not ask for nodes by itself
    UNMET = auto()  #: the service does not ask for nodes for such jobs
    QUEUE_CLOSED = auto()  #: the queues that could take it are closed or paused
    MAX_QUEUED = auto()  #: as many requests as allowed are in the queues already
    BUDGET_SPENT = auto()  #: the node-hours of the budget are spent
    SERVICE_WAITS = auto()  #: the service waits with its next request
    SERVICE_SOON = auto()  #: the service will ask for nodes for it
    NO_LAUNCHER = auto()  #: no launcher is there, and nothing will start one
    OTHER = auto()  #: further kinds, counted together (only with `--all`)
