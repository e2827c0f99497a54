"""What Snakemake has to know of the plugin, and what users can set."""

from dataclasses import dataclass, field
from typing import Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=True,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
    pass_group_args=True,
)


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The options ``--balsam-…``. Snakemake reads the types as they stand: no ``str | None``."""

    site: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The Balsam site: a directory. Default: the activated one, or the one that the"
            " working directory is in."
        },
    )
    workflow: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "The workflow that the jobs belong to in Balsam."
            " Default: snakemake/ and the name of the working directory."
        },
    )
    launcher: bool = field(
        default=False,
        metadata={
            "help": "Start a launcher on this machine, when none takes these jobs, for as long as"
            " Snakemake runs."
        },
    )
    retries: int = field(
        default=0,
        metadata={
            "help": "How often Balsam runs a failed job again before Snakemake hears of it"
            " (Snakemake's own --retries come after that)."
        },
    )
