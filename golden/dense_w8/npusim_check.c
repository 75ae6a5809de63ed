/* See npusim_check.h. C99, nothing but stdint.h and string.h, no allocation. */
#include <string.h>

#include "npusim_check.h"

#ifndef NPUSIM_MODEL_HEADER
#define NPUSIM_MODEL_HEADER "tvmgen_default.h"
#endif
#include NPUSIM_MODEL_HEADER

#ifndef NPUSIM_INPUT_FIELD
#define NPUSIM_INPUT_FIELD input
#endif
#ifndef NPUSIM_OUTPUT_FIELD
#define NPUSIM_OUTPUT_FIELD output
#endif
#ifndef NPUSIM_WAIT
#define NPUSIM_WAIT
#endif

#if NPUSIM_CHECK_SETS < 1 || NPUSIM_CHECK_SETS > NPUSIM_ALL_SETS
#error "NPUSIM_CHECK_SETS must lie from 1 to NPUSIM_ALL_SETS"
#endif

#if defined(NPUSIM_CHECK_BOUNDED) && NPUSIM_OUTPUT_VALUES > NPUSIM_FIRST_VALUES
#define NPUSIM_OUTPUT_KEPT NPUSIM_FIRST_VALUES
#else
#define NPUSIM_OUTPUT_KEPT NPUSIM_OUTPUT_VALUES
#endif

#ifdef NPUSIM_LAYER_HOOK
void NPUSIM_LAYER_HOOK(npusim_report *report, uint32_t set);
#endif

/* Element types. */
#define NPUSIM_INT8 0
#define NPUSIM_UINT8 1
#define NPUSIM_INT16 2
#define NPUSIM_UINT16 3
#define NPUSIM_INT32 4
#define NPUSIM_FLOAT 5

typedef struct {
    uint32_t type;
    uint32_t length;
} npusim_layer;

/* The first values and the CRC-32 of all, in both orders. */
typedef struct {
    const void *first[2];
    uint32_t crc[2];
} npusim_layer_golden;

typedef struct {
    const npusim_input *input;
    const npusim_output *output;
    uint32_t output_crc;
    const npusim_layer_golden *layers;
} npusim_set;

static const npusim_layer npusim_layers[NPUSIM_LAYERS] = {
    {NPUSIM_INT8, 64},
    {NPUSIM_INT8, 64},
    {NPUSIM_UINT8, 32},
    {NPUSIM_INT8, 16},
    {NPUSIM_INT8, 1},
    {NPUSIM_FLOAT, 1},
};

#if NPUSIM_CHECK_SETS > 0
static const npusim_input set0_input[] = {
80.1328125f, 97.9667969f, 100.481445f, 100.527344f, 110.22168f, 98.7763672f, 116.242188f, 120.023438f,
113.023438f, 119.291992f, 109.020508f, 109.245117f, 119.390625f, 126.751953f, 119.932617f, 122.518555f,
124.836914f, 110.22754f, 104.882812f, 113.66211f, 112.466797f, 104.73242f, 104.703125f, 97.490234f,
93.4765625f, 92.32422f, 90.7763672f, 83.9111328f, 96.4541f, 79.118164f, 90.73828f, 77.3798828f, 79.4736328f,
71.9414062f, 85.44043f, 76.015625f, 90.5625f, 91.30957f, 90.9609375f, 82.143555f, 90.5009766f, 101.131836f,
89.88672f, 109.30957f, 98.987305f, 98.28711f, 115.460938f, 104.03418f, 112.865234f, 115.180664f, 122.220703f,
125.532227f, 125.336914f, 119.793945f, 111.40332f, 111.743164f, 125.683594f, 117.34961f, 120.82617f,
111.51758f, 114.48535f, 108.030273f, 108.6709f, 104.84961f,
};
static const npusim_output set0_output[] = {
-0.191642344f,
};
static const int8_t set0_layer0[] = {
-70, 1, 11, 11, 49, 4, 73, 88, 60, 85, 44, 45, 85, 115, 88, 98,
};
static const int8_t set0_layer0_nhwc[] = {
-70, 107, -89, 52, 1, 47, -121, 61, 11, 25, -63, 89, 11, 61, -103, 102,
};
static const int8_t set0_layer1[] = {
-70, 1, 11, 11, 49, 4, 73, 88, 60, 85, 44, 45, 85, 115, 88, 98,
};
static const uint8_t set0_layer2[] = {
0, 0, 11, 0, 0, 0, 35, 0, 21, 10, 72, 0, 0, 28, 0, 1,
};
static const int8_t set0_layer3[] = {
-42, -26, -38, -15, -60, 20, 13, 50, -25, 28, 20, 68, 67, -24, -54, -43,
};
static const int8_t set0_layer4[] = {
-8,
};
static const float set0_layer5[] = {
-0.191642344f,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0_nhwc}, {(uint32_t)0x95182d98UL, (uint32_t)0xd1415e99UL}},
    {{set0_layer1, set0_layer1}, {(uint32_t)0x95182d98UL, (uint32_t)0x95182d98UL}},
    {{set0_layer2, set0_layer2}, {(uint32_t)0x60dbbb5dUL, (uint32_t)0x60dbbb5dUL}},
    {{set0_layer3, set0_layer3}, {(uint32_t)0xf99d2429UL, (uint32_t)0xf99d2429UL}},
    {{set0_layer4, set0_layer4}, {(uint32_t)0x616495a3UL, (uint32_t)0x616495a3UL}},
    {{set0_layer5, set0_layer5}, {(uint32_t)0xec266b3aUL, (uint32_t)0xec266b3aUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
83.1015625f, 85.3125f, 73.4365234f, 77.475586f, 78.481445f, 91.01172f, 86.918945f, 89.2666f, 107.916992f,
110.680664f, 108.55664f, 110.623047f, 125.74121f, 119.481445f, 118.66992f, 113.245117f, 96.0546875f,
84.4980469f, 95.418945f, 90.8671875f, 89.73047f, 83.166016f, 76.5332031f, 79.70215f, 85.3769531f, 102.966797f,
115.776367f, 119.87793f, 112.16211f, 113.151367f, 110.71289f, 109.436523f, 102.04297f, 95.990234f, 97.0f,
89.45117f, 89.850586f, 89.5947266f, 80.42285f, 88.140625f, 78.6914062f, 90.16211f, 104.555664f, 110.467773f,
117.73047f, 109.176758f, 122.76172f, 125.95117f, 112.55957f, 111.30957f, 96.67578f, 96.20703f, 97.59668f,
90.2763672f, 86.23242f, 82.8173828f, 79.89746f, 81.262695f, 83.5927734f, 93.90625f, 104.370117f, 110.063477f,
124.058594f, 124.828125f,
};
static const npusim_output set1_output[] = {
0.07186588f,
};
static const int8_t set1_layer0[] = {
-58, -50, -97, -81, -77, -27, -43, -34, 40, 51, 42, 51, 111, 86, 83, 61,
};
static const int8_t set1_layer0_nhwc[] = {
-58, -12, 8, 50, -50, -59, -18, 46, -97, -14, -14, -12, -81, -33, -46, -14,
};
static const int8_t set1_layer1[] = {
-58, -50, -97, -81, -77, -27, -43, -34, 40, 51, 42, 51, 111, 86, 83, 61,
};
static const uint8_t set1_layer2[] = {
36, 22, 0, 35, 0, 0, 0, 21, 116, 0, 99, 0, 26, 56, 0, 22,
};
static const int8_t set1_layer3[] = {
3, -31, 30, 7, -32, -7, -30, -1, -33, -37, 13, 32, 58, -19, -26, -62,
};
static const int8_t set1_layer4[] = {
3,
};
static const float set1_layer5[] = {
0.07186588f,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0_nhwc}, {(uint32_t)0x8e299ab3UL, (uint32_t)0xac89671cUL}},
    {{set1_layer1, set1_layer1}, {(uint32_t)0x8e299ab3UL, (uint32_t)0x8e299ab3UL}},
    {{set1_layer2, set1_layer2}, {(uint32_t)0xbeca5ecbUL, (uint32_t)0xbeca5ecbUL}},
    {{set1_layer3, set1_layer3}, {(uint32_t)0x286cd6b0UL, (uint32_t)0x286cd6b0UL}},
    {{set1_layer4, set1_layer4}, {(uint32_t)0x4b0bbe37UL, (uint32_t)0x4b0bbe37UL}},
    {{set1_layer5, set1_layer5}, {(uint32_t)0xfdb4513cUL, (uint32_t)0xfdb4513cUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
118.276367f, 109.304688f, 114.751953f, 126.1084f, 125.95703f, 116.615234f, 122.125f, 124.285156f, 114.759766f,
121.033203f, 113.52832f, 102.904297f, 114.182617f, 109.475586f, 107.499023f, 103.841797f, 89.5292969f,
92.80957f, 98.359375f, 85.28711f, 77.63086f, 89.3105469f, 83.7167969f, 88.4072266f, 81.1611328f, 72.6240234f,
78.1142578f, 83.1171875f, 91.546875f, 83.4980469f, 81.362305f, 86.73242f, 99.4169922f, 92.45703f, 89.461914f,
102.17285f, 107.47754f, 107.10254f, 117.870117f, 111.31836f, 108.03711f, 122.223633f, 121.73242f, 116.966797f,
117.689453f, 123.836914f, 113.081055f, 126.20508f, 107.365234f, 114.95996f, 106.875f, 111.4541f, 108.240234f,
95.0039062f, 99.430664f, 105.453125f, 92.52539f, 101.63867f, 88.021484f, 79.58789f, 79.48828f, 86.31836f,
86.2734375f, 72.868164f,
};
static const npusim_output set2_output[] = {
1.0300776f,
};
static const int8_t set2_layer0[] = {
81, 45, 67, 112, 111, 74, 96, 105, 67, 92, 62, 20, 65, 46, 38, 24,
};
static const int8_t set2_layer0_nhwc[] = {
81, -39, -3, 30, 45, -25, -33, 60, 67, -2, -46, 28, 112, -56, 8, 46,
};
static const int8_t set2_layer1[] = {
81, 45, 67, 112, 111, 74, 96, 105, 67, 92, 62, 20, 65, 46, 38, 24,
};
static const uint8_t set2_layer2[] = {
0, 1, 0, 0, 12, 23, 51, 0, 114, 127, 35, 70, 53, 0, 0, 80,
};
static const int8_t set2_layer3[] = {
-69, -2, 54, -3, -62, 34, -9, 63, 47, -17, -14, 39, 68, -15, 40, -97,
};
static const int8_t set2_layer4[] = {
43,
};
static const float set2_layer5[] = {
1.0300776f,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0_nhwc}, {(uint32_t)0xac492c42UL, (uint32_t)0xf5cb3205UL}},
    {{set2_layer1, set2_layer1}, {(uint32_t)0xac492c42UL, (uint32_t)0xac492c42UL}},
    {{set2_layer2, set2_layer2}, {(uint32_t)0x5b4cc336UL, (uint32_t)0x5b4cc336UL}},
    {{set2_layer3, set2_layer3}, {(uint32_t)0xb2643ff8UL, (uint32_t)0xb2643ff8UL}},
    {{set2_layer4, set2_layer4}, {(uint32_t)0x7ebe16cdUL, (uint32_t)0x7ebe16cdUL}},
    {{set2_layer5, set2_layer5}, {(uint32_t)0x8f4a2680UL, (uint32_t)0x8f4a2680UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
113.808594f, 97.6884766f, 112.03125f, 109.228516f, 100.359375f, 89.024414f, 86.84082f, 96.396484f,
83.1796875f, 81.8417969f, 89.03711f, 79.36914f, 79.59668f, 70.7578125f, 77.87793f, 87.893555f, 81.2890625f,
95.197266f, 90.61328f, 85.34082f, 85.7890625f, 102.05371f, 92.01367f, 106.317383f, 110.80078f, 106.34082f,
107.316406f, 122.475586f, 109.612305f, 120.38867f, 118.22754f, 110.734375f, 126.098633f, 117.867188f,
126.86914f, 123.8125f, 110.088867f, 116.286133f, 107.8291f, 106.214844f, 94.6923828f, 91.72461f, 88.1455078f,
88.9736328f, 92.4726562f, 85.96289f, 74.424805f, 89.35742f, 79.578125f, 89.9414062f, 72.2851562f, 75.7851562f,
91.19043f, 85.2236328f, 84.243164f, 81.54883f, 89.805664f, 90.09668f, 98.66504f, 109.601562f, 109.518555f,
113.554688f, 120.161133f, 108.686523f,
};
static const npusim_output set3_output[] = {
0.766569376f,
};
static const int8_t set3_layer0[] = {
63, -1, 56, 45, 10, -35, -44, -6, -58, -63, -35, -73, -72, -107, -79, -39,
};
static const int8_t set3_layer0_nhwc[] = {
63, -73, 111, -79, -1, -15, 76, -39, 56, -34, 114, -108, 45, -56, 101, -94,
};
static const int8_t set3_layer1[] = {
63, -1, 56, 45, 10, -35, -44, -6, -58, -63, -35, -73, -72, -107, -79, -39,
};
static const uint8_t set3_layer2[] = {
147, 19, 0, 0, 0, 20, 0, 64, 0, 0, 0, 88, 30, 37, 86, 0,
};
static const int8_t set3_layer3[] = {
11, 8, 37, 1, -5, 39, 51, -35, -11, -28, -91, -30, 15, 11, -36, -43,
};
static const int8_t set3_layer4[] = {
32,
};
static const float set3_layer5[] = {
0.766569376f,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0_nhwc}, {(uint32_t)0x32eaaf4fUL, (uint32_t)0x416b3f22UL}},
    {{set3_layer1, set3_layer1}, {(uint32_t)0x32eaaf4fUL, (uint32_t)0x32eaaf4fUL}},
    {{set3_layer2, set3_layer2}, {(uint32_t)0x082c6db5UL, (uint32_t)0x082c6db5UL}},
    {{set3_layer3, set3_layer3}, {(uint32_t)0xc52ff373UL, (uint32_t)0xc52ff373UL}},
    {{set3_layer4, set3_layer4}, {(uint32_t)0xe96ccf45UL, (uint32_t)0xe96ccf45UL}},
    {{set3_layer5, set3_layer5}, {(uint32_t)0x7699d88cUL, (uint32_t)0x7699d88cUL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0xec266b3aUL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0xfdb4513cUL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0x8f4a2680UL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0x7699d88cUL, set3_layers},
#endif
};

static npusim_input npusim_input_buffer[NPUSIM_INPUT_VALUES];
static npusim_output npusim_output_buffer[NPUSIM_OUTPUT_VALUES];

static uint32_t npusim_bytes(uint32_t type)
{
    if (type == NPUSIM_INT8 || type == NPUSIM_UINT8) {
        return 1;
    }
    return type == NPUSIM_INT16 || type == NPUSIM_UINT16 ? 2 : 4;
}

/* A byte that came in a wider type, signed or not, as the type says; a value that is no byte stays as it is, and differs. */
static uint32_t npusim_settle(uint32_t bits, uint32_t type)
{
    const uint32_t low = bits & (uint32_t)0xFF;
    const uint32_t high = bits >> 8;
    const int negative = (low & (uint32_t)0x80) != 0;
    if (high != 0 && !(negative && (high == (uint32_t)0xFF || high == (uint32_t)0xFFFFFFUL))) {
        return bits;
    }
    return type == NPUSIM_INT8 && negative ? low | (uint32_t)0xFFFFFF00UL : low;
}

static uint32_t npusim_read(const void *values, uint32_t index, uint32_t type)
{
    uint32_t bits;
    switch (type) {
    case NPUSIM_INT8:
        return npusim_settle((uint32_t)(int32_t)((const int8_t *)values)[index], type);
    case NPUSIM_UINT8:
        return npusim_settle((uint32_t)((const uint8_t *)values)[index], type);
    case NPUSIM_INT16:
        return (uint32_t)(int32_t)((const int16_t *)values)[index];
    case NPUSIM_UINT16:
        return (uint32_t)((const uint16_t *)values)[index];
    case NPUSIM_INT32:
        return (uint32_t)((const int32_t *)values)[index];
    default:
        memcpy(&bits, (const float *)values + index, sizeof bits);
        return bits;
    }
}

/* CRC-32 of the values' bytes, lowest byte first, whatever width the elements have in memory. */
static uint32_t npusim_crc32(const void *values, uint32_t length, uint32_t type)
{
    uint32_t crc = (uint32_t)0xFFFFFFFFUL;
    uint32_t index, byte, bit;
    for (index = 0; index < length; index++) {
        const uint32_t bits = npusim_read(values, index, type);
        for (byte = 0; byte < npusim_bytes(type); byte++) {
            crc ^= (bits >> (8 * byte)) & (uint32_t)0xFF;
            for (bit = 0; bit < 8; bit++) {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ (uint32_t)0xEDB88320UL : crc >> 1;
            }
        }
    }
    return crc ^ (uint32_t)0xFFFFFFFFUL;
}

/* A byte that is none would lose its upper bits in the CRC. */
static int npusim_is_element(uint32_t bits, uint32_t type)
{
    if (type == NPUSIM_INT8) {
        return bits < 128 || bits >= (uint32_t)0xFFFFFF80UL;
    }
    return type != NPUSIM_UINT8 || bits < 256;
}

static void npusim_note(npusim_report *report, int32_t cause, uint32_t set, int32_t layer, int32_t index, uint32_t seen,
                        uint32_t wanted)
{
    if (report->mismatches == 0) {
        report->cause = cause;
        report->set = (int32_t)set;
        report->layer = layer;
        report->index = index;
        report->seen = seen;
        report->wanted = wanted;
    }
    report->mismatches++;
}

/* Compare `length` values, of which the first `kept` are known and all by their CRC. */
static void npusim_compare(npusim_report *report, uint32_t set, int32_t layer, const void *values, const void *golden,
                           uint32_t kept, uint32_t length, uint32_t type, uint32_t wanted_crc)
{
    const uint32_t before = report->mismatches;
    uint32_t index, crc;
    for (index = 0; index < length; index++) {
        const uint32_t seen = npusim_read(values, index, type);
        const uint32_t wanted = index < kept ? npusim_read(golden, index, type) : seen;
        if (seen != wanted || !npusim_is_element(seen, type)) {
            npusim_note(report, NPUSIM_VALUE, set, layer, (int32_t)index, seen, wanted);
        }
    }
    report->compared += length;
    crc = npusim_crc32(values, length, type);
    if (crc != wanted_crc && report->mismatches == before) {
        npusim_note(report, NPUSIM_CRC, set, layer, -1, crc, wanted_crc);
    }
}

/* Values and layers that are asked for; -1 for none, and for all layers. */
#ifdef NPUSIM_PRINT_LAYER
static int32_t npusim_values_layer = NPUSIM_PRINT_LAYER;
#else
static int32_t npusim_values_layer = -1;
#endif
#ifdef NPUSIM_PROBE
static int32_t npusim_probe = NPUSIM_PROBE;
#else
static int32_t npusim_probe = -1;
#endif

int32_t npusim_wanted_layer(void)
{
    return npusim_probe >= 0 ? npusim_probe : npusim_values_layer;
}

#ifdef NPUSIM_PUTCHAR
#ifndef NPUSIM_PRINT_SET
#define NPUSIM_PRINT_SET 0
#endif
#define NPUSIM_VALUES_OF_A_LINE 16

void NPUSIM_PUTCHAR(char letter);

static int32_t npusim_values_set = NPUSIM_PRINT_SET;
static uint32_t npusim_line_sum;

static void npusim_put(char letter)
{
    npusim_line_sum += (uint32_t)letter & (uint32_t)0xFF;
    NPUSIM_PUTCHAR(letter);
}

static void npusim_say(const char *text)
{
    for (; *text != 0; text++) {
        npusim_put(*text);
    }
}

static void npusim_say_hex(uint32_t value, uint32_t digits)
{
    npusim_put(' ');
    while (digits > 0) {
        digits--;
        npusim_put("0123456789abcdef"[(value >> (4 * digits)) & 15]);
    }
}

static void npusim_say_number(int32_t number)
{
    char digits[10];
    uint32_t count = 0, rest = number < 0 ? (uint32_t)0 - (uint32_t)number : (uint32_t)number;
    npusim_say(number < 0 ? " -" : " ");
    do {
        digits[count++] = "0123456789"[rest % 10];
        rest /= 10;
    } while (rest > 0);
    while (count > 0) {
        npusim_put(digits[--count]);
    }
}

static void npusim_line(const char *word)
{
    npusim_say("@npusim ");
    npusim_line_sum = 0;
    npusim_say(word);
}

static void npusim_line_end(void)
{
    const uint32_t sum = npusim_line_sum;
    npusim_say(" *");
    npusim_put("0123456789abcdef"[(sum >> 4) & 15]);
    npusim_put("0123456789abcdef"[sum & 15]);
    npusim_put('\n');
}

static void npusim_print(uint32_t set, int32_t layer, const void *values, uint32_t length, uint32_t type, uint32_t order)
{
    uint32_t index;
    for (index = 0; index < length; index++) {
        const uint32_t bits = npusim_read(values, index, type);
        const uint32_t digits = npusim_is_element(bits, type) ? 2 * npusim_bytes(type) : 8;
        if (index % NPUSIM_VALUES_OF_A_LINE == 0) {
            if (index > 0) {
                npusim_line_end();
            }
            npusim_line("values");
            npusim_say_number((int32_t)set);
            npusim_say_number(layer);
            npusim_say_number((int32_t)order);
            npusim_say_number((int32_t)index);
        }
        npusim_say_hex(bits, digits);
    }
    npusim_line_end();
}

/* The CRC-32 of what was handed over, and the values if they are asked for. */
static void npusim_tell(uint32_t set, int32_t layer, const void *values, uint32_t length, uint32_t type, uint32_t order)
{
    npusim_line("crc");
    npusim_say_number((int32_t)set);
    npusim_say_number(layer);
    npusim_say_number((int32_t)order);
    npusim_say_hex(npusim_crc32(values, length, type), 8);
    npusim_line_end();
    if (npusim_values_layer == layer && layer >= 0 && npusim_values_set == (int32_t)set) {
        npusim_print(set, layer, values, length, type, order);
    }
}
#endif

void npusim_check_start(npusim_report *report)
{
    memset(report, 0, sizeof *report);
    report->set = -1;
    report->layer = -1;
    report->index = -1;
}

const npusim_input *npusim_check_input(uint32_t set)
{
    return set < NPUSIM_CHECK_SETS ? npusim_sets[set].input : 0;
}

void npusim_check_output(npusim_report *report, uint32_t set, const npusim_output *values, uint32_t length)
{
    if (set >= NPUSIM_CHECK_SETS) {
        npusim_note(report, NPUSIM_NO_SUCH, set, -1, -1, set, NPUSIM_CHECK_SETS);
    } else if (length != NPUSIM_OUTPUT_VALUES) {
        npusim_note(report, NPUSIM_LENGTH, set, -1, -1, length, NPUSIM_OUTPUT_VALUES);
    } else {
        npusim_compare(report, set, -1, values, npusim_sets[set].output, NPUSIM_OUTPUT_KEPT, length, NPUSIM_FLOAT,
                       npusim_sets[set].output_crc);
#ifdef NPUSIM_PUTCHAR
        npusim_tell(set, -1, values, length, NPUSIM_FLOAT, NPUSIM_NCHW);
#endif
    }
}

void npusim_check_layer(npusim_report *report, uint32_t set, uint32_t layer, const void *values, uint32_t length,
                        uint32_t order)
{
    if (set >= NPUSIM_CHECK_SETS || layer >= NPUSIM_LAYERS || order > NPUSIM_NHWC) {
        npusim_note(report, NPUSIM_NO_SUCH, set, (int32_t)layer, -1, order, 0);
    } else if (npusim_probe >= 0 && npusim_probe != (int32_t)layer) {
        return;
    } else if (length != npusim_layers[layer].length) {
        npusim_note(report, NPUSIM_LENGTH, set, (int32_t)layer, -1, length, npusim_layers[layer].length);
    } else {
        const npusim_layer_golden *golden = &npusim_sets[set].layers[layer];
        const uint32_t kept = length < NPUSIM_FIRST_VALUES ? length : NPUSIM_FIRST_VALUES;
        npusim_compare(report, set, (int32_t)layer, values, golden->first[order], kept, length, npusim_layers[layer].type,
                       golden->crc[order]);
#ifdef NPUSIM_PUTCHAR
        npusim_tell(set, (int32_t)layer, values, length, npusim_layers[layer].type, order);
#endif
    }
}

uint32_t npusim_layer_length(uint32_t layer)
{
    return layer < NPUSIM_LAYERS ? npusim_layers[layer].length : 0;
}

int32_t npusim_check_verdict(const npusim_report *report)
{
    return report->mismatches == 0 && report->compared > 0 ? 0 : 1;
}

/* Run the sets from `first` to before `stop`. */
static void npusim_run_sets(npusim_report *report, uint32_t first, uint32_t stop)
{
    struct tvmgen_default_inputs inputs;
    struct tvmgen_default_outputs outputs;
    uint32_t set, index;
    for (set = first; set < stop; set++) {
        int32_t status;
        memcpy(npusim_input_buffer, npusim_sets[set].input, sizeof npusim_input_buffer);
        /* Nothing that is right may be left from before: a model that writes nothing must be noticed. */
        for (index = 0; index < NPUSIM_OUTPUT_VALUES; index++) {
            const int same = index < NPUSIM_OUTPUT_KEPT && npusim_sets[set].output[index] == (npusim_output)85;
            npusim_output_buffer[index] = same ? (npusim_output)42 : (npusim_output)85;
        }
        inputs.NPUSIM_INPUT_FIELD = npusim_input_buffer;
        outputs.NPUSIM_OUTPUT_FIELD = npusim_output_buffer;
        status = tvmgen_default_run(&inputs, &outputs);
        if (status != 0) {
            npusim_note(report, NPUSIM_RUN_FAILED, set, -1, -1, (uint32_t)status, 0);
            continue;
        }
        NPUSIM_WAIT
#ifdef NPUSIM_LAYER_HOOK
        NPUSIM_LAYER_HOOK(report, set);
#endif
        npusim_check_output(report, set, npusim_output_buffer, NPUSIM_OUTPUT_VALUES);
    }
}

#ifdef NPUSIM_PUTCHAR
static void npusim_tell_end(const npusim_report *report)
{
    npusim_line("end");
    npusim_say_number((int32_t)report->mismatches);
    npusim_line_end();
}
#endif

#if defined(NPUSIM_PUTCHAR) && defined(NPUSIM_GETCHAR)
int32_t NPUSIM_GETCHAR(void);

/* Read a line: its first letter, and the numbers in it; 0 where nothing comes any more. */
static int32_t npusim_ask(int32_t numbers[2])
{
    int32_t letter, word = 0, count = 0, inside = 0;
    numbers[0] = numbers[1] = -1;
    npusim_line("ready");
    npusim_line_end();
    for (;;) {
        letter = NPUSIM_GETCHAR();
        if (letter < 0) {
            return 0;
        }
        if (letter == '\n' && word != 0) {
            return word;
        }
        if (letter >= '0' && letter <= '9' && word != 0) {
            if (!inside) {
                count++;
            }
            if (count < 3) {
                numbers[count - 1] = (inside ? 10 * numbers[count - 1] : 0) + letter - '0';
            }
            inside = numbers[count < 3 ? count - 1 : 1] < 100000000;
        } else {
            inside = 0;
            word = word == 0 && letter > ' ' ? letter : word;
        }
    }
}

/* Do what the other side of the line asks for until it says that this is all. */
static void npusim_serve(void)
{
    npusim_report again;
    int32_t numbers[2];
    for (;;) {
        const int32_t word = npusim_ask(numbers);
        uint32_t first = 0, stop = NPUSIM_CHECK_SETS;
        if (word == 'v' && numbers[0] >= 0 && numbers[0] < (int32_t)NPUSIM_CHECK_SETS && numbers[1] >= 0) {
            npusim_values_set = numbers[0];
            npusim_values_layer = numbers[1];
            npusim_probe = numbers[1];
            first = (uint32_t)numbers[0];
            stop = first + 1;
        } else if (word == 'p') {
            npusim_probe = numbers[0];
            npusim_values_layer = -1;
        } else {
            return;
        }
        npusim_check_start(&again);
        npusim_run_sets(&again, first, stop);
        npusim_tell_end(&again);
    }
}
#endif

int32_t npusim_check_all(npusim_report *report)
{
    npusim_check_start(report);
#ifdef NPUSIM_PUTCHAR
    npusim_line("start 1 " NPUSIM_MODEL);
    npusim_say_number(NPUSIM_CHECK_SETS);
    npusim_say_number(NPUSIM_LAYERS);
    npusim_line_end();
#endif
    npusim_run_sets(report, 0, NPUSIM_CHECK_SETS);
#ifdef NPUSIM_PUTCHAR
    npusim_tell_end(report);
#ifdef NPUSIM_GETCHAR
    npusim_serve();
#endif
#endif
    return npusim_check_verdict(report);
}
