/* What an S-function uses of simstruc.h, for a test. */
#ifndef SIMSTRUC_H
#define SIMSTRUC_H

typedef double real_T;
typedef int int_T;

enum { SS_DOUBLE = 1, SS_OPTION_EXCEPTION_FREE_CODE = 1, MOST = 16 };

typedef struct {
    double *u[MOST], *y[MOST];
    void *work[MOST];
    int nu, ny, works, uw[MOST], yw[MOST], widths[MOST], through[MOST], contiguous[MOST], parameters;
    double dt, offset;
} SimStruct;

#define ssSetNumSFcnParams(S, n) ((S)->parameters = (n))
#define ssGetNumSFcnParams(S) ((S)->parameters)
#define ssGetSFcnParamsCount(S) 0
#define ssSetNumContStates(S, n) ((void)(S))
#define ssSetNumDiscStates(S, n) ((void)(S))
#define ssSetNumInputPorts(S, n) ((S)->nu = (n), 1)
#define ssSetNumOutputPorts(S, n) ((S)->ny = (n), 1)
#define ssSetInputPortWidth(S, k, n) ((S)->uw[k] = (n))
#define ssSetOutputPortWidth(S, k, n) ((S)->yw[k] = (n))
#define ssSetInputPortDataType(S, k, t) ((void)(S))
#define ssSetOutputPortDataType(S, k, t) ((void)(S))
#define ssSetInputPortRequiredContiguous(S, k, yes) ((S)->contiguous[k] = (yes))
#define ssSetInputPortDirectFeedThrough(S, k, yes) ((S)->through[k] = (yes))
#define ssSetNumSampleTimes(S, n) ((void)(S))
#define ssSetSampleTime(S, k, t) ((S)->dt = (t))
#define ssSetOffsetTime(S, k, t) ((S)->offset = (t))
#define ssSetNumDWork(S, n) ((S)->works = (n))
#define ssSetDWorkWidth(S, k, n) ((S)->widths[k] = (n))
#define ssSetDWorkDataType(S, k, t) ((void)(S))
#define ssGetDWork(S, k) ((S)->work[k])
#define ssSetOptions(S, o) ((void)(S))
#define ssGetInputPortSignal(S, k) ((const void *)(S)->u[k])
#define ssGetOutputPortSignal(S, k) ((void *)(S)->y[k])

#endif
