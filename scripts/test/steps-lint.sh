# shellcheck shell=bash
# Steps that check scripts, workflows and dependencies. Sourced by ./test.
: "${cache:?}" "${work:?}"

step_shell() {
    need shellcheck:shellcheck || { skip "shellcheck is missing" || return; }
    git ls-files -z -- test .ci/run scripts fuzz/run tests/lab tests/chaos |
        xargs -0 grep -lZE '^#!.*(bash|/sh)$|^# shellcheck shell=' |
        xargs -0 shellcheck -x -P SCRIPTDIR
}

# Workflows only run on GitHub, so the linter is their only check before a push.
step_workflows() {
    install_actionlint >"$work/pip" 2>&1 || { skip "actionlint cannot be installed" || return; }
    "$cache/tools/actionlint/bin/actionlint" .github/workflows/*.yml || return 1
    # A tag can be moved to other code.
    if grep -nE 'uses:' .github/workflows/*.yml | grep -vE '@[0-9a-f]{40} # v[0-9.]+$'; then
        echo "these actions are not pinned by hash and version"
        return 1
    fi
    if grep -nE '^ARG [A-Z_]+_IMAGE=' Dockerfile | grep -vE '@sha256:[0-9a-f]{64}$'; then
        echo "these images are not pinned by hash"
        return 1
    fi
    if grep -n sudo .github/workflows/*.yml; then
        echo "a workflow must not need the rights of root"
        return 1
    fi
}

step_deny() {
    cargo_tool cargo-deny || { skip "cargo-deny does not compile" || return; }
    cargo deny --locked check --hide-inclusion-graph bans licenses sources
}

step_advisories() {
    cargo_tool cargo-deny || { skip "cargo-deny does not compile" || return; }
    # The database is a git repository, which a machine behind a proxy may not reach.
    GIT_TERMINAL_PROMPT=0 timeout 30 \
        git ls-remote --quiet https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1 ||
        { skip "the advisory database cannot be reached" || return; }
    timeout 300 cargo deny --locked check advisories
}
