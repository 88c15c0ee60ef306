/* A log-linear histogram of nanoseconds: bounded memory, every bucket within 1.6 % of the values in it.
 *
 * A value is filed by its highest bit and the SUB_BITS bits below it, so small and large latencies have the same
 * relative precision and no sample is ever out of range.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum {
    SUB_BITS = 6,
    SUB_BUCKETS = 1 << SUB_BITS,
    BUCKETS = (64 - SUB_BITS + 1) * SUB_BUCKETS,
};

struct histogram {
    uint64_t total;
    uint64_t max;
    uint64_t count[BUCKETS];
};

static inline unsigned bucket_of(uint64_t value)
{
    if (value < SUB_BUCKETS)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
    return shift * SUB_BUCKETS + (unsigned)(value >> shift);
}

static inline uint64_t bucket_middle(unsigned bucket)
{
    if (bucket < 2 * SUB_BUCKETS)
        return bucket;
    unsigned shift = bucket / SUB_BUCKETS - 1;
    uint64_t lowest = (uint64_t)(bucket - shift * SUB_BUCKETS) << shift;
    return lowest + ((uint64_t)1 << shift) / 2;
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->count[bucket_of(value)]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

/* The value, to bucket precision, that `share` of all samples do not exceed; 0 when there are none. */
static inline uint64_t histogram_quantile(const struct histogram *h, double share)
{
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->count[bucket];
        if (seen && (double)seen >= share * (double)h->total) {
            uint64_t middle = bucket_middle(bucket);
            return middle < h->max ? middle : h->max;
        }
    }
    return 0;
}

#endif
