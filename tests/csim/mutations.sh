#!/bin/bash
# mutations.sh - breaks the cluster's promises on purpose, one patch at a time, and expects the simulator to turn red.
#
# Each tests/csim/mutations/NAME.patch is applied to a copy of the sources below build-mutants/cluster/; its first lines
# say what it breaks.  Prints a table; ends with 1 if a mutant stays green or a patch no longer applies.
#
#   SEEDS=1..10000   how far a mutant is followed
set -u
cd "$(dirname "$0")/../.."
seeds=${SEEDS:-1..10000}
out=build-mutants/cluster
status=0
passed=0
failed=0

make -s build/tests/csim/csim || exit 1
rm -rf "$out"
base=$out/base # a picture of the sources: they may change meanwhile
mkdir -p "$base/tests" "$base/build/tests"
cp -a Makefile spool cluster "$base/"
cp -a --parents $(git ls-files '*rules.mk') "$base/"
cp -a tests/sim tests/csim "$base/tests/"
cp -a build/spool build/cluster "$base/build/"
cp -a build/tests/sim build/tests/csim "$base/build/tests/"
printf '%-24s %-10s %s\n' mutation turns_red failure
for patch in "$base"/tests/csim/mutations/*.patch; do
    name=$(basename "$patch" .patch)
    dir=$out/$name
    cp -a "$base" "$dir"
    if ! patch -s -p1 -d "$dir" <"$patch" >"$dir/patch.log" 2>&1; then
        result=stale why="the patch no longer applies: $dir/patch.log"
    elif ! make -s -C "$dir" build/tests/csim/csim >"$dir/make.log" 2>&1; then
        result=broken why="the mutant does not build: $dir/make.log"
    elif (cd "$dir" && build/tests/csim/csim --seeds "$seeds") >"$dir/csim.log" 2>&1; then
        result=GREEN why="nothing noticed"
    else
        result=$(sed -n 's/^csim: \(seed\) \([0-9]*\).*/\1 \2/p' "$dir/csim.log" | head -1)
        why=$(sed -n 's/.*failed: \(.*\); replay:.*/\1/p' "$dir/csim.log" | head -1 | cut -c1-110)
    fi
    rm -rf "$dir/build"
    case $result in
    seed*) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)) status=1 ;;
    esac
    printf '%-24s %-10s %s\n' "$name" "$result" "$why"
done
echo "$passed passed, $failed failed"
exit $status
