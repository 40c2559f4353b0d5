#include "tinyrnn.h"

const char *trnn_status_text(trnn_status status)
{
    static const char *const texts[] = {
#define TRNN_STATUS(name, exception, text) text,
#include "status.def"
#undef TRNN_STATUS
    };
    return texts[status];
}

const char *trnn_status_exception(trnn_status status)
{
    static const char *const exceptions[] = {
#define TRNN_STATUS(name, exception, text) exception,
#include "status.def"
#undef TRNN_STATUS
    };
    return exceptions[status];
}
