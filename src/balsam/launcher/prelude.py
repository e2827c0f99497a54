"""What is done in bash before a command: an envscript, environment modules, a conda environment.

The names come as words behind the text; nothing is ever put into it.
"""

from __future__ import annotations

from balsam.model.app import App

#: Fails with a line that says what, and on which node.
FAIL = """\
balsam_fail() {
  printf 'balsam: %s (on %s)\\n' "$1" "${BALSAM_NODE:-$HOSTNAME}" >&2
  exit 1
}
"""
#: Becomes the command that is left in `balsam_words`.
_BECOME = """\
if [[ ${balsam_words[0]} != */* ]] && ! type -P -- "${balsam_words[0]}" >/dev/null; then
  balsam_fail "program '${balsam_words[0]}' is not found in PATH ($PATH)"
fi
exec "${balsam_words[@]}"
"""
# `module` is a function of the shell, which others define for log-in shells only.
_MODULES = """\
if ! type -t module >/dev/null; then
  for balsam_file in "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" \\
    /etc/profile.d/{modules,lmod,z00_lmod,00-modules,z01_lmod}.sh \\
    /usr/share/{modules,Modules,lmod/lmod}/init/bash /opt/modules/default/init/bash; do
    if [[ -r $balsam_file ]]; then
      source "$balsam_file"
      type -t module >/dev/null && break
    fi
  done
  type -t module >/dev/null || balsam_fail "the command 'module' is not there, which is to load\
 $(printf '%s ' "${balsam_modules[@]}")- let the app's envscript define it"
fi
for balsam_module in "${balsam_modules[@]}"; do
  module load "$balsam_module" \\
    || balsam_fail "cannot load the module '$balsam_module'; \\`module avail\\` lists what is there"
done
"""
# What `conda activate` does, without its half a second: the directories of an environment are
# put into PATH, and its own scripts are sourced.
_CONDA = """\
balsam_find_conda() {
  local name=$1 tool root directory
  if [[ $name == */* ]]; then
    [[ -d $name/bin ]] && balsam_prefix=$name
    return
  fi
  local roots=("$MAMBA_ROOT_PREFIX" "$CONDA_ROOT")
  for tool in "$CONDA_EXE" "$MAMBA_EXE" "$(type -P conda)" "$(type -P mamba)"; do
    [[ $tool == */*/* ]] && roots+=("${tool%/*/*}")
  done
  roots+=("$HOME"/{.conda,miniconda3,miniforge3,mambaforge,anaconda3,micromamba})
  roots+=("$HOME/.local/share/mamba" /opt/conda)
  local found=() given
  IFS=: read -ra given <<<"$CONDA_ENVS_PATH:$CONDA_ENVS_DIRS"
  for directory in "${given[@]}"; do
    [[ $directory ]] && found+=("$directory/$name")
  done
  for root in "${roots[@]}"; do
    [[ $root && $name == base ]] && found+=("$root")
    [[ $root ]] && found+=("$root/envs/$name")
  done
  if [[ -r $HOME/.conda/environments.txt ]]; then
    while IFS= read -r directory; do
      [[ ${directory##*/} == "$name" ]] && found+=("$directory")
    done <"$HOME/.conda/environments.txt"
  fi
  for directory in "${found[@]}"; do
    if [[ -d $directory/conda-meta ]]; then
      balsam_prefix=$directory
      return
    fi
  done
}
balsam_prefix=
balsam_find_conda "$balsam_conda"
[[ $balsam_prefix ]] || balsam_fail "there is no conda environment '$balsam_conda';\
 give its path, which \\`conda env list\\` shows"
export CONDA_PREFIX=$balsam_prefix CONDA_DEFAULT_ENV=$balsam_conda PATH=$balsam_prefix/bin:$PATH
for balsam_file in "$balsam_prefix"/etc/conda/activate.d/*.sh; do
  [[ -r $balsam_file ]] && source "$balsam_file"
done
"""


_TEXT = f"""\
{FAIL}
balsam_words=("$@")
set --
balsam_modules=("${{balsam_words[@]:2:balsam_words[0]}}")
balsam_conda=${{balsam_words[1]}}
balsam_words=("${{balsam_words[@]:2+balsam_words[0]}}")
if [[ ${{#balsam_modules[@]}} != 0 ]]; then
{_MODULES}fi
if [[ $balsam_conda ]]; then
{_CONDA}fi
{_BECOME}"""


def prelude(app: App) -> list[str]:
    """Return the words that come before a command of *app*: none, or those of a bash.

    The app's envscript is sourced before them, by the worker.
    """
    if not app.modules and not app.conda:
        return []
    words = [str(len(app.modules)), app.conda, *app.modules]
    return ["/bin/bash", "-c", _TEXT, "balsam", *words]
