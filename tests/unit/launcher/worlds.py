"""Worlds to play in: jobs of every kind, and much that goes wrong."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.resources import NodeResources
from balsam.model.retry import parse_rules
from balsam.model.states import State
from tests.unit.launcher.simulation import IDENTITY, World

S = State
NODE = NodeResources(
    host="node", cores=4, threads=8, memory_mib=8000, gpus=("0", "1"), gpu_vendor="nvidia"
)
APPS = {
    "plain": App(id=1, name="plain", executable="/bin/true"),
    "hooked": App(id=2, name="hooked", executable="/bin/true", preprocess="a", postprocess="b"),
    "before": App(id=3, name="before", executable="/bin/true", preprocess="a"),
    "after": App(id=4, name="after", executable="/bin/true", postprocess="b"),
}


def job(id_: int, application: str = "plain", **fields: Any) -> Job:
    prepares = bool(APPS[application].preprocess if application in APPS else "")
    prepares = prepares or "stage_in_url" in fields or "input_files" in fields
    state = S.READY if prepares else S.PREPROCESSED
    given: dict[str, Any] = {"state": state, "workdir": f"/site/data/w/{id_}"} | fields
    return Job(
        id=id_,
        job_id=str(IDENTITY.uuid(id_)),
        name=f"j{id_}",
        workflow="w",
        application=application,
        **given,
    )


def jobs(count: int, **fields: Any) -> list[Job]:
    return [job(id_, **fields) for id_ in range(1, count + 1)]


def nodes(count: int) -> list[NodeResources]:
    return [msgspec.structs.replace(NODE, host=f"node{n}") for n in range(1, count + 1)]


def random_job(random: Random, id_: int, most_nodes: int = 1) -> Job:
    """A job of any kind that the nodes can hold."""
    fields: dict[str, Any] = {
        "priority": random.choice((0, 0, 0, 5, -3)),
        "wall_time_minutes": random.choice((0, 0, 1, 30)),
        "max_retries": random.choice((0, 0, 1, 3)),
        "post_error_handler": random.random() < 0.5,
        "post_timeout_handler": random.random() < 0.5,
        "auto_timeout_retry": random.random() < 0.8,
    }
    kind = random.randrange(6)
    if kind == 0:
        fields["node_packing_count"] = random.choice((4, 8, 64))
    elif kind == 1:
        fields["gpus_per_rank"] = random.choice((0.25, 0.5, 1, 2))
    elif kind == 2:
        fields["memory_mib"] = random.choice((500, 3000, 8000))
    elif kind == 3:
        fields["threads_per_rank"] = random.choice((2, 4))
    elif kind == 4:
        fields["ranks_per_node"] = random.choice((2, 4))
    if random.random() < 0.1:
        fields["stage_in_url"] = "/data/in"
    if random.random() < 0.1:
        fields |= {"stage_out_url": "/data/out", "stage_out_files": "*"}
    if most_nodes > 1 and random.random() < 0.3:
        fields["num_nodes"] = random.randint(2, most_nodes)
    application = random.choice((*APPS, "plain", "plain", "plain"))
    return job(id_, application if random.random() > 0.02 else "removed", **fields)


#: Rules that the jobs of random worlds have.
RULES = (
    *("", "", "", "any: max=2", "exit=3: never; any: max=3", "any: max=2, delay=3, backoff=4"),
    *("signal=SEGV: max=4, delay=0.01; exit=1: memory*2, max=2", "timeout: time*2, max=1"),
    *("any: memory+100, time+1, delay=20, max=3", "exit=1-9: max=1, delay=100; timeout: delay=1"),
)


def random_world(seed: int, count: int = 1, **options: float) -> World:
    """A world of *count* nodes where much goes wrong."""
    random = Random(seed)
    options = {
        "hooks": random.choice((1, 2, 4)),
        "grace_seconds": random.choice((0.5, 5)),
        "crash_limit": seed % 3,
        **options,
    }
    number = random.choice((1, 30, 200))
    found = [random_job(random, id_, count) for id_ in range(1, number + 1)]
    chosen = Random(seed + 2)
    for one in found:
        one.retry = parse_rules(chosen.choice(RULES))
    world = World(seed, nodes(count), found, APPS, **options)
    pace = random.choice((0.002, 0.05, 3.0, 60.0))
    flaky = random.choice((0.0, 0.1, 0.5))
    chance = Random(seed + 1)

    def behaviour(job: Job, attempt: int) -> tuple[float, int] | None:
        if chance.random() < 0.02:
            return None
        return chance.expovariate(1 / pace), chance.choice((1, 3, -11)) * (chance.random() < flaky)

    def hook(job: Job) -> tuple[float, int, State | None]:
        repaired = chance.choice((S.RESTART_READY, S.JOB_FINISHED, S.FAILED, None))
        return chance.uniform(0.01, 1.0), int(chance.random() < 0.05), repaired

    world.behaviour, world.hook = behaviour, hook
    others = Random(seed + 3)

    def waits(job: Job) -> float:
        holds = job.memory_mib or job.gpus_per_rank
        return 0.0 if holds or others.random() < 0.7 else others.expovariate(1 / pace)

    world.waits = waits
    world.staging_error = lambda job: "no such file" if chance.random() < 0.2 else ""
    if random.random() < 0.3:  # a database that is slow, and at times away
        world.database_seconds = lambda: chance.choice((0.01, 0.01, 0.5, 20.0))
    for _ in range(random.choice((0, 0, 5, 40))):
        victim = random.randint(1, len(found))
        world.after(random.expovariate(1 / (5 * pace)), lambda v=victim: world.kill(v))
    for _ in range(random.choice((0, 0, 0, 3))):
        world.after(random.expovariate(1 / (10 * pace)), world.lose)
    return world
