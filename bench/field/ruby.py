from . import Program

THREADS, FILES = 60, 3
SCRIPT = """
results = %d.times.map { |t| Thread.new {
  begin
    files = %d.times.map { |i| f = File.open("#{ARGV[0]}/#{(t * 3 + i)}"); sleep 0.02; f }
    files.sum { |f| f.read.to_i - f.path.split('/')[-1].to_i + 1 }
  rescue SystemCallError
    0
  ensure
    files&.each(&:close)
  end
} }.map(&:value)
puts results.sum
"""


def prepare(folder):
    for i in range(THREADS * FILES):
        (folder / str(i)).write_text(f"{i}\n")


def run(trial):
    trial.command(["ruby", "-e", SCRIPT % (THREADS, FILES), trial.data], trial.folder / "said")
    done = int((trial.folder / "said").read_text() or 0)
    return done, THREADS * FILES - done


PROGRAM = Program("Ruby, several files each", "60 threads with three files each, without those that fail", ("ruby",), 64, run, prepare=prepare, short=False)
