from . import Logger, fed

SCRIPT = """
logger:remove_handler(default),
logger:add_handler(file, logger_std_h, #{config => #{file => "%s", filesync_repeat_interval => %s}, formatter => {logger_formatter, #{single_line => true}}}),
logger:set_primary_config(level, info),
Loop = fun L() -> case io:get_line("") of
  eof -> logger_std_h:filesync(file), init:stop();
  ":" ++ Mark -> file:write_file(string:trim(Mark), <<>>), L();
  Line -> logger:info("~ts", [string:trim(Line)]), L() end end,
Loop().
"""


def erlang(interval):
    return lambda outage: fed(outage, ["erl", "-noinput", "-noshell", "+S", "2:2", "-eval", SCRIPT % (outage.log, interval)], pause=0.4)


LOGGERS = [
    Logger("Erlang, logger", "an event of logger_std_h, which syncs the file every two seconds", ("erl",), erlang(2000)),
]
