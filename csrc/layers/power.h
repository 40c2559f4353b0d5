/* Powers in double, without vectors and without libm: the same bits everywhere. */
#ifndef TRNN_POWER_H
#define TRNN_POWER_H

/* ln x for x above 0 and finite as a float; -inf of 0, inf of inf, NaN of what is below 0. */
double trnn_log_double(double x);

/* exp x; beyond +-200 that of +-200, which no float can tell from inf and 0. */
double trnn_exp_double(double x);

/* x^p, the edges as of C's pow. Right to the last place of a float but for a few in 10^6. */
float trnn_power_of(float x, float p);

#endif
