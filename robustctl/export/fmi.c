/* NAME as a functional mock-up unit for co-simulation, made by robustctl. The names and types below follow the FMI standard. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "NAME.h"

DEFINITIONS

typedef enum { IS_REAL, IS_INT32, IS_INT64, IS_BOOLEAN } kind;
typedef enum { IS_STATE, IS_INPUT, IS_OUTPUT, IS_TIME } role;
typedef enum { CREATED, INITIALIZING, STEPPING, TERMINATED } mode;

/* All that a unit remembers, without a pointer in it, so that its bytes can be kept. */
typedef struct {
    NAME_state x;
    NAME_inputs u;
    NAME_outputs y;
    double start;
    double time;
    uint64_t count; /* samples taken since the start */
    mode phase;
} data;

typedef struct {
    size_t offset;
    kind is;
    role does;
} variable;

VARIABLES

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

/* Where the unit is linked statically, the standard has a prefix before each name. */
#ifdef FMI_FUNCTION_PREFIX
#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
#define FUNCTION(name) JOIN(FMI_FUNCTION_PREFIX, name)
#else
#define FUNCTION(name) name
#endif

#define COUNT (sizeof(variables) / sizeof(variables[0]))

static void reset(data *d)
{
    memset(d, 0, sizeof(*d));
    NAME_init(&d->x);
STARTS
    d->phase = CREATED;
}

/* The outputs before the first sample: those of the state and the inputs as they are, of which nothing moves. */
static void look(data *d)
{
    NAME_state x = d->x;
    NAME_step(&x, &d->u, &d->y);
}

static const void *found(data *d, size_t reference)
{
    if (variables[reference].does == IS_OUTPUT && d->phase < STEPPING) {
        look(d);
    }
    return (const char *)d + variables[reference].offset;
}

/* The place of a variable that may be set now, else NULL. */
static void *settable(data *d, size_t reference)
{
    const role does = variables[reference].does;
    if (does != IS_INPUT && !(does == IS_STATE && d->phase < STEPPING)) {
        return NULL;
    }
    return (char *)d + variables[reference].offset;
}

/* Takes the samples in a step from t of length h; a hundredth of a sample before its time counts as in time. */
static bool advance(data *d, double t, double h)
{
    const double end = (t + h - d->start) / sample_time - 0.01;
    if (d->phase != STEPPING || !(h > 0) || !(end < 9e15)) {
        return false;
    }
    while ((double)d->count < end) {
        NAME_step(&d->x, &d->u, &d->y);
        d->count++;
    }
    d->time = t + h;
    return true;
}

static bool copied(const data *d, void **kept)
{
    if (*kept == NULL) {
        *kept = malloc(sizeof(data));
    }
    if (*kept != NULL) {
        memcpy(*kept, d, sizeof(data));
    }
    return *kept != NULL;
}
