#!/usr/bin/env bash
# Runs every script of a folder (names starting with _ are helpers), each into its own output folder,
# and ends with how long each took. All run even when one fails; the exit status then says so.
# Usage: tools/run_scripts.sh PYTHON FOLDER OUTPUT [options for the scripts]
set -uo pipefail
python=$1 folder=$2 output=$3
shift 3
export MPLBACKEND=Agg
failed=0 summary=""

for script in "$folder"/[!_]*.py; do
    [ -e "$script" ] || { echo "no scripts in $folder"; exit 0; }
    name=$(basename "$script" .py)
    echo "== $python $script --out $output/$name $*"
    started=$SECONDS verdict=ok
    status=0
    "$python" "$script" --out "$output/$name" "$@" </dev/null || status=$?
    # Status 77: what the script is about is not to be had on this machine, and it has said so.
    case $status in
        0) ;;
        77) verdict="not tried" ;;
        *) verdict=FAILED failed=1 ;;
    esac
    summary+=$(printf '%-40s %5d s  %s' "$script" $((SECONDS - started)) "$verdict")$'\n'
done
printf '\n%s' "$summary"
exit "$failed"
