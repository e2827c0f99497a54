"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from balsam import __version__
from balsam.report import charts, quantities
from balsam.report.charts import Chart, phases_chart, throughput_chart, utilization_chart
from balsam.report.job_rows import JobRow
from balsam.report.records import Summary
from balsam.report.tally import PHASES


def render(summary: Summary, rows: list[JobRow]) -> str:
    """Return the page. *rows* may be fewer than the summary's jobs; the page then says so."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=quantities.duration,
        count=quantities.count,
        share=quantities.share,
        rate=quantities.rate,
        core_time=quantities.core_time,
        moment=quantities.moment,
    )
    return environment.get_template("page.html.jinja").render(
        summary=summary,
        rows=rows,
        charts=_charts(summary),
        canvas=charts,
        phases=_phases(summary),
        phase_of={str(state): phase for phase, states in PHASES.items() for state in states},
        site_name=Path(summary.site).name,
        version=__version__,
    )


def _charts(summary: Summary) -> list[Chart]:
    """Return the plots; none before anything ran."""
    course = summary.course
    if summary.started_at is None:
        return []
    return [utilization_chart(course), throughput_chart(course), phases_chart(course)]


def _phases(summary: Summary) -> list[tuple[str, int]]:
    """Return how many jobs are in each phase, those with none left out."""
    counts = [
        (phase, sum(summary.states.get(state, 0) for state in states))
        for phase, states in PHASES.items()
    ]
    return [(phase, number) for phase, number in counts if number]
