# dalli; MODE is default or namespace.
require "dalli"

mode, *servers = ARGV
options = mode == "namespace" ? { namespace: "app" } : {}
client = Dalli::Client.new(servers, options)
$stdin.each_line(chomp: true) do |key|
  client.set(key, "value of #{key}", nil, raw: true) or abort "not stored: #{key}"
end
