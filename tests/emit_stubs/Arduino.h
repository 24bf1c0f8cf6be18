/* What a sketch uses of Arduino's core, for a test: the clock is a number that the test sets. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stdint.h>
#include <stdio.h>

static uint32_t stub_clock;

static inline uint32_t micros() { return stub_clock; }
static inline uint32_t millis() { return stub_clock; }

struct SerialPort
{
    void begin(long) {}
    void print(const char * text) { printf("%s", text); }
    void print(char letter) { printf("%c", letter); }
    void print(double number, int digits) { printf("%.*f", digits, number); }
    void println(uint32_t number) { printf("%lu\n", (unsigned long)number); }
};
static SerialPort Serial __attribute__((unused));

#endif
