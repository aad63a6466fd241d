import signal

from . import Program, crowd, free_port

SERVER = """
{ok, L} = gen_tcp:listen(%d, [binary, {active, false}, {reuseaddr, true}, {backlog, 4096}, {ip, {127,0,0,1}}]),
Echo = fun E(C) -> case gen_tcp:recv(C, 0) of {ok, B} -> gen_tcp:send(C, B), E(C); _ -> gen_tcp:close(C) end end,
Accept = fun A() -> case gen_tcp:accept(L) of {ok, C} -> P = spawn(fun() -> receive go -> Echo(C) end end),
  gen_tcp:controlling_process(C, P), P ! go; _ -> receive after 10 -> ok end end, A() end,
Accept().
"""


def run(trial):
    port = free_port()
    trial.serve(["erl", "-noinput", "-noshell", "+S", "2:2", "-eval", SERVER % port], port, end=signal.SIGKILL)
    return crowd(trial, port, 1300, b"hello", b"hello", stay=True)


PROGRAM = Program("Erlang", "a language's virtual machine with a table as long as the limit said", ("erl",), 1024, run)
