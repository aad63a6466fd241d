# leak.rb LIVE OPENS
require 'socket'
live = Array.new(ARGV[0].to_i) { |i| [i] }
ARGV[1].to_i.times { Socket.new(:INET, :STREAM) }
puts 'done'
$stdout.flush
$stdin.read
