# Runs a command until standard input ends. That is a pipe from the benchmark, so the command ends however that ends.
exec 3<&0
"$@" </dev/null 3<&- &
command=$!
{ cat <&3 && kill "$command"; } >/dev/null 2>&1 &
exec 3<&-
wait "$command"
