# Drops N objects of a kind without closing them, or does so in circumstances of its own: leak.rb KIND N [nogc]
require 'socket'
require 'tempfile'

kind, count = ARGV[0], ARGV[1].to_i
GC.disable if ARGV[2] == 'nogc'
$stdout.sync = true
server = TCPServer.new('127.0.0.1', 0) if %w[tcp accept].include?(kind)
port = server&.addr&.at(1)

def leak_slowly
  2.times { ObjectSpace.define_finalizer(Object.new, proc { sleep 1 }) }
  loop { Socket.new(:INET, :STREAM) }
end

case kind
when 'open' then count.times { File.open('/etc/passwd') }
when 'dir' then count.times { Dir.open('/etc') }
when 'tempfile' then count.times { Tempfile.new }
when 'pipe' then count.times { IO.pipe }
when 'socket' then count.times { Socket.new(:INET, :STREAM) }
when 'tcp' then count.times { TCPSocket.new('127.0.0.1', port) }
when 'udp' then count.times { UDPSocket.new }
when 'pair' then count.times { UNIXSocket.pair }
when 'dup' then count.times { $stdin.dup }
when 'popen' then count.times { IO.popen('true') }
when 'accept' then count.times { TCPSocket.new('127.0.0.1', port); server.accept }
when 'threads'
  threads = 8.times.map { Thread.new { count.times { Socket.new(:INET, :STREAM); File.open('/etc/passwd') } } }
  threads.each { |thread| thread.report_on_exception = false }
  threads.each(&:join)
when 'at_exit'
  at_exit do
    begin
      count.times { Socket.new(:INET, :STREAM) }
    rescue SystemCallError => error
      puts error.message
      exit! 1
    end
    puts 'done'
    $stdin.read
  end
  exit
when 'fork'
  20.times { Socket.new(:INET, :STREAM) }
  child = fork { count.times { Socket.new(:INET, :STREAM) }; exit! 0 }
  Process.wait(child)
  abort 'the child failed: Too many open files' unless $?.success?
when 'finalizer_raises'
  $stderr.reopen('/dev/null')
  count.times { ObjectSpace.define_finalizer(Object.new, proc { raise 'from a finalizer' }); Socket.new(:INET, :STREAM) }
when 'finalizer_opens'
  opened = 0
  count.times do
    ObjectSpace.define_finalizer(Object.new, proc { Socket.new(:INET, :STREAM).close; opened += 1 })
    Socket.new(:INET, :STREAM)
  end
when 'finalizer_locks'
  $stderr.reopen('/dev/null')
  mutex = Mutex.new
  mutex.synchronize do
    count.times { ObjectSpace.define_finalizer(Object.new, proc { mutex.synchronize {} }); Socket.new(:INET, :STREAM) }
  end
# What comes during a collection is delivered: it must not be lost with the finalizer that it interrupts.
when 'timeout'
  require 'timeout'
  begin
    Timeout.timeout(0.5) { leak_slowly }
    abort 'it went on'
  rescue Timeout::Error
    puts 'arrived'
  end
when 'raise'
  main = Thread.current
  Thread.new { sleep 0.5; main.raise(IOError, 'stop') }
  begin
    leak_slowly
    abort 'it went on'
  rescue IOError => error
    abort "another error: #{error.inspect}" unless error.message == 'stop'
    puts 'arrived'
  end
when 'kill'
  doomed = Thread.new { leak_slowly }
  sleep 0.5
  doomed.kill
  begin
    abort 'it lives on' unless doomed.join(20)
  rescue Exception => error
    abort "another error: #{error.inspect}" unless error.message == 'killed'
  end
  puts 'arrived'
when 'exit'
  # The end of the program kills its threads.
  Thread.new { leak_slowly }
  sleep 0.5
  puts 'done'
  exit
when 'error_info'
  begin
    raise 'before'
  rescue => error
    count.times { Socket.new(:INET, :STREAM) }
    abort 'the error has changed' unless $!.equal?(error)
  end
else abort "no such kind: #{kind}"
end
puts 'done'
$stdin.read
