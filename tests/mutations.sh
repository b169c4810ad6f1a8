#!/bin/bash
# mutations.sh - breaks promises on purpose, one patch at a time, and expects a simulator to turn red.
#
#   tests/mutations.sh NAME SEEDS DIR...    NAME: of the simulator, tests/NAME/NAME; DIR: the sources that it is made of
#
# Each tests/NAME/mutations/*.patch is applied to a copy of the sources below build-mutants/NAME/; its first lines say what
# it breaks.  Prints a table; ends with 1 if a mutant stays green or a patch no longer applies.
#
#   SEEDS=1..10000   how far a mutant is followed, if not as the caller says
#   OPTIONS          more for the simulator
set -u
cd "$(dirname "$0")/.."
sim=$1
seeds=${SEEDS:-$2}
shift 2
program=build/tests/$sim/$sim
out=build-mutants/$sim
status=0
passed=0
failed=0

make -s "$program" || exit 1
rm -rf "$out"
base=$out/base # a picture of the sources: they may change meanwhile
mkdir -p "$base"
cp -a Makefile "$base/"
cp -a --parents $(git ls-files '*rules.mk') build/with-dpdk-* "$base/"
for dir in "$@" "tests/$sim"; do
    cp -a --parents "$dir" "build/$dir" "$base/"
done
printf '%-24s %-10s %s\n' mutation turns_red failure
for patch in "$base/tests/$sim"/mutations/*.patch; do
    name=$(basename "$patch" .patch)
    dir=$out/$name
    cp -a "$base" "$dir"
    if ! patch -s -p1 -d "$dir" <"$patch" >"$dir/patch.log" 2>&1; then
        result=stale why="the patch no longer applies: $dir/patch.log"
    elif ! make -s -C "$dir" "$program" >"$dir/make.log" 2>&1; then
        result=broken why="the mutant does not build: $dir/make.log"
    elif (cd "$dir" && "$program" --seeds "$seeds" ${OPTIONS:-}) >"$dir/$sim.log" 2>&1; then
        result=GREEN why="nothing noticed"
    else
        result=$(sed -n "s/^$sim: \(seed\|cut\) \([0-9]*\).*/\1 \2/p" "$dir/$sim.log" | head -1)
        why=$(sed -n 's/.*failed: \(.*\); replay:.*/\1/p' "$dir/$sim.log" | head -1 | cut -c1-110)
    fi
    rm -rf "$dir/build"
    case $result in
    seed* | cut*) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)) status=1 ;;
    esac
    printf '%-24s %-10s %s\n' "$name" "$result" "$why"
done
echo "$passed passed, $failed failed"
exit $status
