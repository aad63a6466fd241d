from . import Logger, fed

SCRIPT = """
logger:remove_handler(default),
logger:add_handler(file, logger_std_h, #{config => #{file => "%s", filesync_repeat_interval => 5000}, formatter => {logger_formatter, #{single_line => true}}}),
logger:set_primary_config(level, info),
Loop = fun L() -> case io:get_line("") of
  eof -> logger_std_h:filesync(file), init:stop();
  ":" ++ Mark -> file:write_file(string:trim(Mark), <<>>), L();
  Line -> logger:info("~ts", [string:trim(Line)]), L() end end,
Loop().
"""


def start(outage):
    return fed(outage, ["erl", "-noinput", "-noshell", "+S", "2:2", "-eval", SCRIPT % outage.log], pause=0.4)


ALONE = "logger_std_h calls fdatasync(2) each time that it has written all: a file that is synced more than once a second is no log by the rule"
LOGGERS = [Logger("Erlang, logger", "an event of logger_std_h", ("erl",), start, left_alone=ALONE)]
