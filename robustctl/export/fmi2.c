
typedef enum { fmi2OK, fmi2Warning, fmi2Discard, fmi2Error, fmi2Fatal, fmi2Pending } fmi2Status;
typedef void (*fmi2Logger)(void *environment, const char *name, fmi2Status status, const char *category, const char *message, ...);
typedef struct {
    fmi2Logger logger;
    void *(*allocate)(size_t count, size_t size);
    void (*release)(void *memory);
    void (*finished)(void *environment, fmi2Status status);
    void *environment;
} fmi2Callbacks;

typedef struct {
    data now;
    const fmi2Callbacks *callbacks;
    char *name;
} unit;

static fmi2Status refuse(const fmi2Callbacks *callbacks, const char *name, const char *message)
{
    if (callbacks != NULL && callbacks->logger != NULL) {
        callbacks->logger(callbacks->environment, name, fmi2Error, "logStatusError", message);
    }
    return fmi2Error;
}

static fmi2Status checked(const unit *s, bool holds, const char *message)
{
    return holds ? fmi2OK : refuse(s->callbacks, s->name, message);
}

EXPORT const char *FUNCTION(fmi2GetTypesPlatform)(void) { return "default"; }
EXPORT const char *FUNCTION(fmi2GetVersion)(void) { return "2.0"; }
EXPORT fmi2Status FUNCTION(fmi2SetDebugLogging)(void *c, int on, size_t n, const char *const names[]) { return fmi2OK; }

EXPORT void *FUNCTION(fmi2Instantiate)(
    const char *name, int type, const char *token, const char *resources, const fmi2Callbacks *callbacks, int visible, int logging)
{
    unit *s;
    if (type != 1 || token == NULL || strcmp(token, token_of_this) != 0) {
        refuse(callbacks, name, "The unit must be made for co-simulation, with the guid of its modelDescription.xml.");
        return NULL;
    }
    s = malloc(sizeof(unit));
    if (s == NULL) {
        return NULL;
    }
    s->name = malloc(strlen(name == NULL ? "" : name) + 1);
    if (s->name == NULL) {
        free(s);
        return NULL;
    }
    strcpy(s->name, name == NULL ? "" : name);
    s->callbacks = callbacks;
    reset(&s->now);
    return s;
}

EXPORT void FUNCTION(fmi2FreeInstance)(void *c)
{
    if (c != NULL) {
        free(((unit *)c)->name);
    }
    free(c);
}

EXPORT fmi2Status FUNCTION(fmi2SetupExperiment)(void *c, int hasTolerance, double tolerance, double start, int hasStop, double stop)
{
    unit *s = c;
    s->now.start = s->now.time = start;
    return checked(s, s->now.phase == CREATED, "fmi2SetupExperiment must come before the initialization.");
}

EXPORT fmi2Status FUNCTION(fmi2EnterInitializationMode)(void *c)
{
    unit *s = c;
    const bool ready = s->now.phase == CREATED;
    s->now.phase = ready ? INITIALIZING : s->now.phase;
    return checked(s, ready, "The initialization must follow fmi2Instantiate or fmi2Reset.");
}

EXPORT fmi2Status FUNCTION(fmi2ExitInitializationMode)(void *c)
{
    unit *s = c;
    if (s->now.phase != INITIALIZING) {
        return checked(s, false, "fmi2ExitInitializationMode must follow fmi2EnterInitializationMode.");
    }
    look(&s->now);
    s->now.phase = STEPPING;
    return fmi2OK;
}

EXPORT fmi2Status FUNCTION(fmi2Terminate)(void *c)
{
    ((unit *)c)->now.phase = TERMINATED;
    return fmi2OK;
}

EXPORT fmi2Status FUNCTION(fmi2Reset)(void *c)
{
    reset(&((unit *)c)->now);
    return fmi2OK;
}

/* Reads and sets the variables of one of the standard's types; `matches` is of the variable's kind. */
#define ACCESS(type, value_t, matches, read, write)                                                                     \
    EXPORT fmi2Status FUNCTION(fmi2Get##type)(void *c, const unsigned references[], size_t n, value_t values[])         \
    {                                                                                                                   \
        unit *s = c;                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                                \
            const kind is = references[i] < COUNT ? variables[references[i]].is : IS_REAL;                              \
            if (references[i] >= COUNT || !(matches)) {                                                                 \
                return checked(s, false, "Each value reference must be a variable of type " #type ".");                 \
            }                                                                                                           \
            const void *from = found(&s->now, references[i]);                                                           \
            values[i] = read;                                                                                           \
        }                                                                                                               \
        return fmi2OK;                                                                                                  \
    }                                                                                                                   \
    EXPORT fmi2Status FUNCTION(fmi2Set##type)(void *c, const unsigned references[], size_t n, const value_t values[])   \
    {                                                                                                                   \
        unit *s = c;                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                                \
            const kind is = references[i] < COUNT ? variables[references[i]].is : IS_REAL;                              \
            void *to = references[i] < COUNT && (matches) ? settable(&s->now, references[i]) : NULL;                    \
            if (to == NULL) {                                                                                           \
                return checked(s, false, "What is set must be an input, or before the first step a state, of type " #type "."); \
            }                                                                                                           \
            write;                                                                                                      \
        }                                                                                                               \
        return fmi2OK;                                                                                                  \
    }

static void write_integer(void *to, kind is, int value)
{
    if (is == IS_INT32) {
        *(int32_t *)to = value;
    } else {
        *(int64_t *)to = value;
    }
}

ACCESS(Real, double, is == IS_REAL, (double)*(const real *)from, *(real *)to = (real)values[i])
ACCESS(Integer, int, is == IS_INT32 || is == IS_INT64, is == IS_INT32 ? (int)*(const int32_t *)from : (int)*(const int64_t *)from,
       write_integer(to, is, values[i]))
ACCESS(Boolean, int, is == IS_BOOLEAN, *(const bool *)from, *(bool *)to = values[i] != 0)
EXPORT fmi2Status FUNCTION(fmi2GetString)(void *c, const unsigned references[], size_t n, const char *values[])
{
    return checked(c, n == 0, "The unit has no strings.");
}

EXPORT fmi2Status FUNCTION(fmi2SetString)(void *c, const unsigned references[], size_t n, const char *const values[])
{
    return checked(c, n == 0, "The unit has no strings.");
}

EXPORT fmi2Status FUNCTION(fmi2GetFMUstate)(void *c, void **kept)
{
    return checked(c, copied(&((unit *)c)->now, kept), "There must be memory for the state.");
}

EXPORT fmi2Status FUNCTION(fmi2SetFMUstate)(void *c, void *kept)
{
    memcpy(&((unit *)c)->now, kept, sizeof(data));
    return fmi2OK;
}

EXPORT fmi2Status FUNCTION(fmi2FreeFMUstate)(void *c, void **kept)
{
    free(*kept);
    *kept = NULL;
    return fmi2OK;
}

EXPORT fmi2Status FUNCTION(fmi2SerializedFMUstateSize)(void *c, void *kept, size_t *size)
{
    *size = sizeof(data);
    return fmi2OK;
}

EXPORT fmi2Status FUNCTION(fmi2SerializeFMUstate)(void *c, void *kept, char bytes[], size_t size)
{
    if (size >= sizeof(data)) {
        memcpy(bytes, kept, sizeof(data));
    }
    return checked(c, size >= sizeof(data), "The state needs as many bytes as fmi2SerializedFMUstateSize tells.");
}

EXPORT fmi2Status FUNCTION(fmi2DeSerializeFMUstate)(void *c, const char bytes[], size_t size, void **kept)
{
    data d;
    if (size != sizeof(data)) {
        return checked(c, false, "The bytes must be those of fmi2SerializeFMUstate.");
    }
    memcpy(&d, bytes, sizeof(data));
    return checked(c, copied(&d, kept), "There must be memory for the state.");
}

EXPORT fmi2Status FUNCTION(fmi2GetDirectionalDerivative)(
    void *c, const unsigned unknowns[], size_t m, const unsigned knowns[], size_t n, const double seed[], double derivatives[])
{
    return checked(c, false, "The unit gives no derivatives.");
}

EXPORT fmi2Status FUNCTION(fmi2SetRealInputDerivatives)(
    void *c, const unsigned references[], size_t n, const int orders[], const double values[])
{
    return checked(c, n == 0, "The unit takes no derivatives of inputs.");
}

EXPORT fmi2Status FUNCTION(fmi2GetRealOutputDerivatives)(
    void *c, const unsigned references[], size_t n, const int orders[], double values[])
{
    return checked(c, n == 0, "The unit gives no derivatives of outputs.");
}

EXPORT fmi2Status FUNCTION(fmi2DoStep)(void *c, double time, double step, int keeps)
{
    unit *s = c;
    return checked(s, advance(&s->now, time, step), "A step must have a positive length and follow the initialization.");
}

EXPORT fmi2Status FUNCTION(fmi2CancelStep)(void *c) { return checked(c, false, "No step is pending."); }
EXPORT fmi2Status FUNCTION(fmi2GetStatus)(void *c, int what, fmi2Status *value) { return fmi2Discard; }

EXPORT fmi2Status FUNCTION(fmi2GetRealStatus)(void *c, int what, double *value)
{
    *value = ((unit *)c)->now.time;
    return what == 2 ? fmi2OK : fmi2Discard; /* 2 asks for the time of the last step */
}

EXPORT fmi2Status FUNCTION(fmi2GetIntegerStatus)(void *c, int what, int *value) { return fmi2Discard; }

EXPORT fmi2Status FUNCTION(fmi2GetBooleanStatus)(void *c, int what, int *value)
{
    *value = 0;
    return what == 3 ? fmi2OK : fmi2Discard; /* 3 asks whether the unit ended the simulation */
}

EXPORT fmi2Status FUNCTION(fmi2GetStringStatus)(void *c, int what, const char **value) { return fmi2Discard; }
