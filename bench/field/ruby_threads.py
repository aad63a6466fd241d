from . import Program

SCRIPT = """
read, failed = Queue.new, Queue.new
100.times.map do |i|
  Thread.new do
    5.times do
      begin
        File.open('/etc/passwd') { |file| sleep 0.01; file.read }
        read << i
      rescue Errno::EMFILE
        failed << i
      end
    end
  end
end.each(&:join)
puts read.size, failed.size
"""


def run(trial):
    trial.command(["ruby", "-e", SCRIPT], trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 500)


PROGRAM = Program("Ruby, threads", "100 threads with a file each", ("ruby",), 48, run, short=False)
