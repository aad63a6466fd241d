from . import HTTP, Program, crowd, free_port

SCRIPT = """
require 'socket'
server = TCPServer.new('127.0.0.1', ARGV[0].to_i)
server.listen(500)
loop do
  begin
    client = server.accept
  rescue Errno::EMFILE
    sleep 0.05
    next
  end
  Thread.new(client) do |one|
    begin
      one.readpartial(999)
      said = File.open('/etc/passwd') { |file| sleep 0.005; file.read }
      one.write("HTTP/1.0 200 OK\\r\\n\\r\\n" + said)
    rescue SystemCallError
    ensure
      one.close
    end
  end
end
"""


def run(trial):
    port = free_port()
    trial.serve(["ruby", "-e", SCRIPT, port], port)
    return crowd(trial, port, 150, *HTTP)


PROGRAM = Program("Ruby, a server", "a thread per client opens a file; at its limit it sleeps for 50 ms", ("ruby",), 40, run, short=False)
