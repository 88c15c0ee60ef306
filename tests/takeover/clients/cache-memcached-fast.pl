# Cache::Memcached::Fast; MODE is default, namespace or ketama.
use strict;
use warnings;
use Cache::Memcached::Fast;

my ($mode, @servers) = @ARGV;
my $client = Cache::Memcached::Fast->new({
    servers => [map { /(.*):([\d.]+)$/; { address => $1, weight => $2 } } @servers],
    $mode eq 'namespace' ? (namespace => 'app:') : (),
    $mode eq 'ketama' ? (ketama_points => 150) : (),
});
while (my $key = <STDIN>) {
    chomp $key;
    $client->set($key, "value of $key") or die "not stored: $key\n";
}
