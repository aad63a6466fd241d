from . import Program

# A file that is out of reach is closed by the garbage collector, which knows nothing of descriptors.
SCRIPT = """
local opened, without = 0, 0
for i = 1, 1000 do
  local file = io.open(arg[1])
  if file then opened = opened + 1 else without = without + 1 end
end
print(opened, without)
"""


def run(trial):
    (trial.folder / "leaks.lua").write_text(SCRIPT)
    trial.command(["lua5.4", trial.folder / "leaks.lua", "/etc/passwd"], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 1000)


PROGRAM = Program("Lua", "leaves its files to the garbage collector", ("lua5.4",), 64, run, short=False)
