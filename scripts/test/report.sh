# shellcheck shell=bash
# Runs steps, records how they ended and prints the totals. Sourced by ./test, which sets `work`.
: "${work:?}"

# A step sets `tests_passed` and its siblings when it counts tests itself.
reason='' tests_passed='' tests_failed='' tests_skipped=''
passed=0 failed=0 skipped=0

# skip REASON: ends the current step as skipped, in the form `skip "..." || return`.
skip() {
    reason=$1
    return 77
}

# Runs a step and records its exit status, duration and counts.
run_step() {
    local name=$1 status started=$SECONDS
    reason='' tests_passed='' tests_failed='' tests_skipped=''
    printf '\n== %s\n' "$name"
    "step_$name"
    status=$?
    [ $status != 77 ] || printf 'SKIPPED %s: %s\n' "$name" "$reason" >&2
    printf '%s\n' $status $((SECONDS - started)) \
        "$tests_passed" "$tests_failed" "$tests_skipped" "$reason" >"$work/end-$name"
}

# Runs steps one after the other and keeps their output in files.
run_lane() {
    local name
    for name in "$@"; do
        run_step "$name" >"$work/log-$name" 2>&1 </dev/null
    done
}

# Sums lines like `test result: ok. 8 passed; 0 failed; 1 ignored` and
# `Summary [..] 9 tests run: 8 passed, 1 failed, 1 skipped` of a log.
count_tests() {
    local counts
    counts=$(sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /^test result: |^ *Summary \[/ {
            gsub(/\([^)]*\)/, "")
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^failed/ || $i ~ /^timed/) failed += $(i - 1)
                if ($i ~ /^ignored/ || $i ~ /^skipped/) skipped += $(i - 1)
            }
        }
        END { print passed + 0, failed + 0, skipped + 0 }')
    read -r tests_passed tests_failed tests_skipped <<<"$counts"
}

# Prints the line of a step and adds it to the totals.
add_step() {
    local name=$1 status seconds good bad left reason
    {
        read -r status && read -r seconds &&
            read -r good && read -r bad && read -r left && read -r reason
    } <"$work/end-$name" || {
        status=1 seconds='?' good=''
        echo "the step $name was killed" >&2
    }
    case $status in
        0) printf 'passed   %s (%s s)' "$name" "$seconds" ;;
        77) printf 'SKIPPED  %s: %s' "$name" "$reason" ;;
        *) printf 'FAILED   %s (%s s)' "$name" "$seconds" ;;
    esac
    if [ -n "$good" ]; then
        printf ': %s tests passed, %s failed, %s skipped' "$good" "$bad" "$left"
        passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
        # The step failed without a failed test: it did not compile, or it timed out.
        [ "$status" = 0 ] || [ "$bad" != 0 ] || failed=$((failed + 1))
    else
        case $status in
            0) passed=$((passed + 1)) ;;
            77) skipped=$((skipped + 1)) ;;
            *) failed=$((failed + 1)) ;;
        esac
    fi
    printf '\n'
}

# Prints what failed in a step, or the end of its output if it names nothing.
print_faults() {
    local faults
    faults=$(sed 's/\x1b\[[0-9;]*m//g; s/^ *//' "$work/log-$1" |
        grep -E '^(FAIL|TIMEOUT|SIG[A-Z]+) |^test .* FAILED$' | sort -u)
    [ -n "$faults" ] || faults=$(grep -v '^$' "$work/log-$1" | tail -n 3)
    head -n 5 <<<"$faults" | cut -c 1-200 | sed 's/^/         /'
}

# Prints a line for each step and the totals; fails if a step failed.
print_summary() {
    local name before
    printf '\n== summary\n'
    for name in "$@"; do
        before=$failed
        add_step "$name"
        [ "$failed" = "$before" ] || print_faults "$name"
    done
    printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
}
