/* Checks on the device that the model computes what it must, to the bit, for every set of golden vectors.
 * Written by npusim for the model with SHA-256
 * 27b606f9c89c12136111ea87c1b4dda9605fc5bfbab481677968ff2f2a01eec3.
 *
 * Compile npusim_check.c into the application and call
 *
 *     npusim_report report;
 *     if (npusim_check_all(&report) != 0) { ... report.set, report.layer, report.index ... }
 *
 * Nothing has to be edited. Macros that may be defined for the compiler:
 *   NPUSIM_CHECK_BOUNDED        keep only the first 16 values of each golden output in flash, and a CRC-32 of all
 *   NPUSIM_CHECK_SETS=n         keep only the first n sets
 *   NPUSIM_WAIT=statement       what to wait for after the call, for example: while (!tvmgen_default_finished) {}
 *   NPUSIM_LAYER_HOOK=function  void function(npusim_report *report, uint32_t set), called after each run; it hands over the
 *                               layer buffers that it can reach by npusim_check_layer
 *   NPUSIM_PUTCHAR=function     void function(char letter), which sends a letter: a CRC-32 of each output and layer is printed,
 *                               for 'npusim golden check DIR --port PORT', or its output kept in a file for --dump
 *   NPUSIM_GETCHAR=function     int32_t function(void), which waits for a letter, negative where none will come: the other
 *                               side asks for the values of the layer that differs first, and for one layer after the other
 *   NPUSIM_PRINT_LAYER=n, NPUSIM_PRINT_SET=k  without NPUSIM_GETCHAR: print the values of this layer in this set
 *   NPUSIM_PROBE=n              compare and print this layer only, where one buffer can be kept
 *   NPUSIM_MODEL_HEADER=file    header of the compiled model, in quotes
 *   NPUSIM_INPUT_FIELD, NPUSIM_OUTPUT_FIELD  members of its structs of inputs and outputs
 */
#ifndef NPUSIM_CHECK_H_
#define NPUSIM_CHECK_H_

#if defined(__C29__) || defined(__TMS320C2000__)
#include "device.h"
#else
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define NPUSIM_MODEL "27b606f9"
#define NPUSIM_ALL_SETS 4
#define NPUSIM_LAYERS 7
#define NPUSIM_FIRST_VALUES 16
#define NPUSIM_INPUT_VALUES 576
#define NPUSIM_OUTPUT_VALUES 4

#ifndef NPUSIM_CHECK_SETS
#define NPUSIM_CHECK_SETS NPUSIM_ALL_SETS
#endif

/* Layers by number; their buffers have as many values as npusim_layer_length says. */
#define NPUSIM_LAYER_input_codes 0
#define NPUSIM_LAYER_first_Conv_output_0 1
#define NPUSIM_LAYER_halve_AveragePool_output_0 2
#define NPUSIM_LAYER_second_Conv_output_0 3
#define NPUSIM_LAYER_pool_MaxPool_output_0 4
#define NPUSIM_LAYER_average_flat_Flatten_output_0 5
#define NPUSIM_LAYER_output 6

/* The order of a layer's values: as in the ONNX model, or channels last as the NPU holds them. */
#define NPUSIM_NCHW 0
#define NPUSIM_NHWC 1

/* What the compiled model reads and writes. */
typedef float npusim_input;
typedef int8_t npusim_output;

/* Causes of a mismatch. */
#define NPUSIM_EQUAL 0       /* none */
#define NPUSIM_VALUE 1       /* a value differs */
#define NPUSIM_CRC 2         /* the CRC-32 differs, at a value whose place is not known */
#define NPUSIM_LENGTH 3      /* a buffer has another length; seen and wanted are lengths */
#define NPUSIM_RUN_FAILED 4  /* the model's function returned seen instead of 0 */
#define NPUSIM_NO_SUCH 5     /* there is no such set, layer or order */

/* The result; set, layer, index, seen and wanted are about the first mismatch.
 * layer is -1 for the model's output, index is -1 where the place is not known. seen and wanted hold integers, two's complement
 * for negative ones, or the 32 bits of a float or of a CRC. */
typedef struct {
    uint32_t compared;   /* values that were compared one by one or by a CRC */
    uint32_t mismatches; /* comparisons of a value, a CRC, a length or a run that failed */
    int32_t cause;
    int32_t set;
    int32_t layer;
    int32_t index;
    uint32_t seen;
    uint32_t wanted;
} npusim_report;

/* Run the model on every set and compare; 0 when something was compared and all of it was equal. */
int32_t npusim_check_all(npusim_report *report);

/* The parts of it, for applications that run the model themselves: start a report, give an input, compare, judge. */
void npusim_check_start(npusim_report *report);
const npusim_input *npusim_check_input(uint32_t set);
void npusim_check_output(npusim_report *report, uint32_t set, const npusim_output *values, uint32_t length);
int32_t npusim_check_verdict(const npusim_report *report);

/* Compare a layer's buffer. Its elements have the type of the layer's values: int8_t or uint8_t for codes. Where these types
 * are wider than 8 bits, values count as equal when they are the same signed or unsigned byte. */
void npusim_check_layer(npusim_report *report, uint32_t set, uint32_t layer, const void *values, uint32_t length,
                        uint32_t order);
uint32_t npusim_layer_length(uint32_t layer);

/* The layer whose buffer is asked for, by NPUSIM_PROBE or by the other side of the line; -1 where all are. An application that
 * can keep one buffer only keeps this one. */
int32_t npusim_wanted_layer(void);

#ifdef __cplusplus
}
#endif

#endif /* NPUSIM_CHECK_H_ */
