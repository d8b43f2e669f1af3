#!/bin/sh
# Finds a Python 3.11 and hands over to setup_environment.py (--core, --force), or with --lock to
# lock_dependencies.py. Arguments are passed on.
here=$(cd "$(dirname "$0")" && pwd)
script=setup_environment.py
if [ "$1" = --lock ]; then
    shift
    script=lock_dependencies.py
fi
for candidate in ${PYTHON:-} python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
        exec "$candidate" "$here/$script" "$@"
    fi
done
echo "set-up: no Python 3.11 found on PATH; install it (or name one: PYTHON=/path/to/python3.11 make setup)" >&2
exit 1
