# Cache::Memcached; MODE is default or namespace.
use strict;
use warnings;
use Cache::Memcached;

my ($mode, @servers) = @ARGV;
my $client = Cache::Memcached->new({
    servers => [map { /(.*):(\d+)$/; [$1, $2] } @servers],
    $mode eq 'namespace' ? (namespace => 'app:') : (),
});
while (my $key = <STDIN>) {
    chomp $key;
    $client->set($key, "value of $key") or die "not stored: $key\n";
}
