from . import Logger, fed

SCRIPT = """local log = io.open(arg[1], 'a')
for l in io.lines() do
  if l:sub(1, 1) == ':' then io.open(l:sub(2), 'w'):close() else log:write(l, '\\n') log:flush() end
end"""


def prepare(folder):
    (folder / "script.lua").write_text(SCRIPT)


LOGGERS = [Logger("Lua, file:write", "write and flush", ("lua5.4",), lambda o: fed(o, ["lua5.4", o.data / "script.lua", o.log]), prepare)]
