# shellcheck shell=bash
# Sourced: where downloaded things live, always outside the tree.
HOLDFAST_CACHE=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/holdfast}
export HOLDFAST_CACHE
