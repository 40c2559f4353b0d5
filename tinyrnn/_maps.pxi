# Part of `_kernels`: the functions of each number, by the names of maps.def.

cdef extern from *:
    """
    #include <stddef.h>
    #include "kernels/kernels.h"
    typedef void (*mapper)(const float *, float *, size_t, const float *);
    typedef void (*back_mapper)(const float *, const float *, const float *, float *, size_t, const float *);
    typedef struct { const char *name; size_t forward, back; } map_places;
    static const map_places maps[] = {
    #define TRNN_MAP(name, ...) \
        {#name, offsetof(trnn_kernels, map_##name), offsetof(trnn_kernels, map_##name##_back)},
    #include "kernels/maps.def"
    #undef TRNN_MAP
    };
    enum { MAP_COUNT = sizeof maps / sizeof maps[0] };
    """
    ctypedef void (*mapper)(const float *, float *, size_t, const float *) noexcept nogil
    ctypedef void (*back_mapper)(const float *, const float *, const float *, float *, size_t,
                                 const float *) noexcept nogil
    ctypedef struct map_places:
        const char *name
        size_t forward, back
    const map_places *maps
    enum:
        MAP_COUNT


MAPS = tuple([maps[i].name.decode() for i in range(MAP_COUNT)])


cdef class Constants:
    """Up to three constants of a map; those that are not given are 0."""
    cdef float numbers[3]

    def __cinit__(self, tuple given):
        for i in range(3):
            self.numbers[i] = given[i] if i < len(given) else 0


def map(str isa, str name, x, y, *constants):
    """``y = name(x)`` for each number; ``name`` is one of `MAPS`, ``constants`` as in maps.def. ``y`` may be ``x``."""
    cdef Constants k = Constants(constants)
    cdef const char *kernels = <const char *> kernels_of(isa)
    cdef mapper run = (<const mapper *> (kernels + maps[<int> MAPS.index(name)].forward))[0]
    cdef const float *source = floats(x)
    cdef float *target = floats(y, x.shape)
    cdef size_t n = x.size
    with nogil:
        run(source, target, n, k.numbers)
    return y


def map_back(str isa, str name, x, y, dy, dx, *constants):
    """``dx`` from ``dy``, for the ``y`` that `map` makes of ``x``. ``dx`` may be ``dy``."""
    cdef Constants k = Constants(constants)
    cdef const char *kernels = <const char *> kernels_of(isa)
    cdef back_mapper run = (<const back_mapper *> (kernels + maps[<int> MAPS.index(name)].back))[0]
    run(floats(x), floats(y, x.shape), floats(dy, x.shape), floats(dx, x.shape), x.size, k.numbers)
    return dx
