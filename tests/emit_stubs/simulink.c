/* Runs an S-function as a simulator does, outputs twice in each sample: the inputs of a sample are a line of standard input. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    static SimStruct block;
    SimStruct *S = &block;
    mdlInitializeSizes(S);
    mdlInitializeSampleTimes(S);
    printf("%.17g %d %d\n", S->dt, S->nu, S->ny);
    for (int k = 0; k < S->works; k++) {
        S->work[k] = calloc((size_t)S->widths[k], sizeof(double));
    }
    for (int k = 0; k < S->nu; k++) {
        S->u[k] = (double *)calloc((size_t)S->uw[k], sizeof(double));
    }
    for (int k = 0; k < S->ny; k++) {
        S->y[k] = (double *)calloc((size_t)S->yw[k], sizeof(double));
    }
    mdlInitializeConditions(S);
    for (;;) {
        for (int k = 0; k < S->nu; k++) {
            for (int i = 0; i < S->uw[k]; i++) {
                if (scanf("%lf", &S->u[k][i]) != 1) {
                    mdlTerminate(S);
                    return 0;
                }
            }
        }
        mdlOutputs(S, 0);
        mdlOutputs(S, 0);
        for (int k = 0; k < S->ny; k++) {
            for (int i = 0; i < S->yw[k]; i++) {
                printf("%.17g ", S->y[k][i]);
            }
        }
        printf("\n");
        mdlUpdate(S, 0);
    }
}
