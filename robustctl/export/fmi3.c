
typedef enum { fmi3OK, fmi3Warning, fmi3Discard, fmi3Error, fmi3Fatal } fmi3Status;
typedef void (*fmi3Logger)(void *environment, fmi3Status status, const char *category, const char *message);

typedef struct {
    data now;
    fmi3Logger logger;
    void *environment;
} unit;

static fmi3Status checked(const unit *s, bool holds, const char *message)
{
    if (!holds && s->logger != NULL) {
        s->logger(s->environment, fmi3Error, "logStatusError", message);
    }
    return holds ? fmi3OK : fmi3Error;
}

EXPORT const char *FUNCTION(fmi3GetVersion)(void) { return "3.0"; }
EXPORT fmi3Status FUNCTION(fmi3SetDebugLogging)(void *c, bool on, size_t n, const char *const names[]) { return fmi3OK; }

EXPORT void *FUNCTION(fmi3InstantiateCoSimulation)(
    const char *name, const char *token, const char *resources, bool visible, bool logging, bool events, bool early,
    const uint32_t required[], size_t n, void *environment, fmi3Logger logger, void *intermediate)
{
    unit *s;
    if (token == NULL || strcmp(token, token_of_this) != 0) {
        if (logger != NULL) {
            logger(environment, fmi3Error, "logStatusError", "The token must be that of modelDescription.xml.");
        }
        return NULL;
    }
    s = malloc(sizeof(unit));
    if (s != NULL) {
        s->logger = logger;
        s->environment = environment;
        reset(&s->now);
    }
    return s;
}

EXPORT void FUNCTION(fmi3FreeInstance)(void *c) { free(c); }

EXPORT fmi3Status FUNCTION(fmi3EnterInitializationMode)(
    void *c, bool hasTolerance, double tolerance, double start, bool hasStop, double stop)
{
    unit *s = c;
    if (s->now.phase != CREATED) {
        return checked(s, false, "The initialization must follow the instantiation or fmi3Reset.");
    }
    s->now.start = s->now.time = start;
    s->now.phase = INITIALIZING;
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3ExitInitializationMode)(void *c)
{
    unit *s = c;
    if (s->now.phase != INITIALIZING) {
        return checked(s, false, "fmi3ExitInitializationMode must follow fmi3EnterInitializationMode.");
    }
    look(&s->now);
    s->now.phase = STEPPING;
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3Terminate)(void *c)
{
    ((unit *)c)->now.phase = TERMINATED;
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3Reset)(void *c)
{
    reset(&((unit *)c)->now);
    return fmi3OK;
}

/* Reads and sets the variables of one of the standard's types, in C `value_t` and in the model `own_t`. */
#define ACCESS(type, value_t, own_t, kind_of)                                                                           \
    EXPORT fmi3Status FUNCTION(fmi3Get##type)(void *c, const uint32_t references[], size_t n, value_t values[], size_t m) \
    {                                                                                                                   \
        unit *s = c;                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                                \
            if (m != n || references[i] >= COUNT || variables[references[i]].is != (kind_of)) {                         \
                return checked(s, false, "Each value reference must be a variable of type " #type ".");                 \
            }                                                                                                           \
            values[i] = (value_t)*(const own_t *)found(&s->now, references[i]);                                         \
        }                                                                                                               \
        return fmi3OK;                                                                                                  \
    }                                                                                                                   \
    EXPORT fmi3Status FUNCTION(fmi3Set##type)(                                                                          \
        void *c, const uint32_t references[], size_t n, const value_t values[], size_t m)                               \
    {                                                                                                                   \
        unit *s = c;                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                                \
            const bool known = m == n && references[i] < COUNT && variables[references[i]].is == (kind_of);             \
            own_t *to = known ? settable(&s->now, references[i]) : NULL;                                                \
            if (to == NULL) {                                                                                           \
                return checked(s, false, "What is set must be an input, or before the first step a state, of type " #type "."); \
            }                                                                                                           \
            *to = (own_t)values[i];                                                                                     \
        }                                                                                                               \
        return fmi3OK;                                                                                                  \
    }

ACCESS(Int32, int32_t, int32_t, IS_INT32)
ACCESS(Int64, int64_t, int64_t, IS_INT64)
ACCESS(Boolean, bool, bool, IS_BOOLEAN)

EXPORT fmi3Status FUNCTION(fmi3GetFloat64)(void *c, const uint32_t references[], size_t n, double values[], size_t m)
{
    unit *s = c;
    for (size_t i = 0; i < n; i++) {
        if (m != n || references[i] >= COUNT || variables[references[i]].is != IS_REAL) {
            return checked(s, false, "Each value reference must be a variable of type Float64.");
        }
        const void *from = found(&s->now, references[i]);
        values[i] = variables[references[i]].does == IS_TIME ? *(const double *)from : (double)*(const real *)from;
    }
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3SetFloat64)(void *c, const uint32_t references[], size_t n, const double values[], size_t m)
{
    unit *s = c;
    for (size_t i = 0; i < n; i++) {
        const bool known = m == n && references[i] < COUNT && variables[references[i]].is == IS_REAL;
        real *to = known ? settable(&s->now, references[i]) : NULL;
        if (to == NULL) {
            return checked(s, false, "What is set must be an input, or before the first step a state, of type Float64.");
        }
        *to = (real)values[i];
    }
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3GetFMUState)(void *c, void **kept)
{
    return checked(c, copied(&((unit *)c)->now, kept), "There must be memory for the state.");
}

EXPORT fmi3Status FUNCTION(fmi3SetFMUState)(void *c, void *kept)
{
    memcpy(&((unit *)c)->now, kept, sizeof(data));
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3FreeFMUState)(void *c, void **kept)
{
    free(*kept);
    *kept = NULL;
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3SerializedFMUStateSize)(void *c, void *kept, size_t *size)
{
    *size = sizeof(data);
    return fmi3OK;
}

EXPORT fmi3Status FUNCTION(fmi3SerializeFMUState)(void *c, void *kept, uint8_t bytes[], size_t size)
{
    if (size >= sizeof(data)) {
        memcpy(bytes, kept, sizeof(data));
    }
    return checked(c, size >= sizeof(data), "The state needs as many bytes as fmi3SerializedFMUStateSize tells.");
}

EXPORT fmi3Status FUNCTION(fmi3DeserializeFMUState)(void *c, const uint8_t bytes[], size_t size, void **kept)
{
    data d;
    if (size != sizeof(data)) {
        return checked(c, false, "The bytes must be those of fmi3SerializeFMUState.");
    }
    memcpy(&d, bytes, sizeof(data));
    return checked(c, copied(&d, kept), "There must be memory for the state.");
}

EXPORT fmi3Status FUNCTION(fmi3EnterStepMode)(void *c) { return fmi3OK; }

EXPORT fmi3Status FUNCTION(fmi3DoStep)(
    void *c, double time, double step, bool keeps, bool *event, bool *ends, bool *early, double *last)
{
    unit *s = c;
    const bool done = advance(&s->now, time, step);
    *event = *ends = *early = false;
    *last = s->now.time;
    return checked(s, done, "A step must have a positive length and follow the initialization.");
}

/* The standard asks for these too; nothing in modelDescription.xml leads to a call of one, and their arguments are not read. */
#define NO_INSTANCE(name) \
    EXPORT void *FUNCTION(name)(const char *first, ...) { return NULL; }
#define NOTHING(name) \
    EXPORT fmi3Status FUNCTION(name)(void *c, ...) { return checked(c, false, "The unit does not offer " #name "."); }

NO_INSTANCE(fmi3InstantiateModelExchange)
NO_INSTANCE(fmi3InstantiateScheduledExecution)
NOTHING(fmi3GetFloat32)
NOTHING(fmi3GetInt8)
NOTHING(fmi3GetUInt8)
NOTHING(fmi3GetInt16)
NOTHING(fmi3GetUInt16)
NOTHING(fmi3GetUInt32)
NOTHING(fmi3GetUInt64)
NOTHING(fmi3GetString)
NOTHING(fmi3GetBinary)
NOTHING(fmi3GetClock)
NOTHING(fmi3SetFloat32)
NOTHING(fmi3SetInt8)
NOTHING(fmi3SetUInt8)
NOTHING(fmi3SetInt16)
NOTHING(fmi3SetUInt16)
NOTHING(fmi3SetUInt32)
NOTHING(fmi3SetUInt64)
NOTHING(fmi3SetString)
NOTHING(fmi3SetBinary)
NOTHING(fmi3SetClock)
NOTHING(fmi3GetNumberOfVariableDependencies)
NOTHING(fmi3GetVariableDependencies)
NOTHING(fmi3GetDirectionalDerivative)
NOTHING(fmi3GetAdjointDerivative)
NOTHING(fmi3EnterConfigurationMode)
NOTHING(fmi3ExitConfigurationMode)
NOTHING(fmi3EnterEventMode)
NOTHING(fmi3GetIntervalDecimal)
NOTHING(fmi3GetIntervalFraction)
NOTHING(fmi3GetShiftDecimal)
NOTHING(fmi3GetShiftFraction)
NOTHING(fmi3SetIntervalDecimal)
NOTHING(fmi3SetIntervalFraction)
NOTHING(fmi3SetShiftDecimal)
NOTHING(fmi3SetShiftFraction)
NOTHING(fmi3EvaluateDiscreteStates)
NOTHING(fmi3UpdateDiscreteStates)
NOTHING(fmi3EnterContinuousTimeMode)
NOTHING(fmi3CompletedIntegratorStep)
NOTHING(fmi3SetTime)
NOTHING(fmi3SetContinuousStates)
NOTHING(fmi3GetContinuousStateDerivatives)
NOTHING(fmi3GetEventIndicators)
NOTHING(fmi3GetContinuousStates)
NOTHING(fmi3GetNominalsOfContinuousStates)
NOTHING(fmi3GetNumberOfEventIndicators)
NOTHING(fmi3GetNumberOfContinuousStates)
NOTHING(fmi3GetOutputDerivatives)
NOTHING(fmi3ActivateModelPartition)
