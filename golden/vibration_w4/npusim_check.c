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
    {NPUSIM_INT8, 192},
    {NPUSIM_UINT8, 512},
    {NPUSIM_UINT8, 256},
    {NPUSIM_UINT8, 256},
    {NPUSIM_UINT8, 512},
    {NPUSIM_UINT8, 16},
    {NPUSIM_INT8, 4},
};

#if NPUSIM_CHECK_SETS > 0
static const npusim_input set0_input[] = {
-0.46557617f, -0.28735352f, -0.142333984f, 0.083496094f, 0.300537109f, 0.4038086f, 0.5012207f, 0.48217773f,
0.39819336f, 0.203125f, 0.052490234f, -0.17260742f, -0.32226562f, -0.448974609f, -0.49731445f, -0.45825195f,
-0.33496094f, -0.146484375f, 0.0910644531f, 0.27172852f, 0.3984375f, 0.47509766f, 0.46289062f, 0.3774414f,
0.232421875f, 0.0102539062f, -0.185058594f, -0.36547852f, -0.44750977f, -0.4699707f, -0.4206543f,
-0.31298828f, -0.1340332f, 0.040771484f, 0.23071289f, 0.39941406f, 0.48364258f, 0.46704102f, 0.37451172f,
0.21923828f, 0.051513672f, -0.15209961f, -0.31860352f, -0.480224609f, -0.51660156f, -0.4465332f, -0.35766602f,
-0.146972656f, 0.03540039f, 0.26904297f, 0.421875f, 0.49975586f, 0.49389648f, 0.40625f, 0.24633789f,
0.072509766f, -0.12060547f, -0.31567383f, -0.42944336f, -0.489257812f, -0.44750977f, -0.36987305f,
-0.14428711f, 0.01171875f, 0.21508789f, 0.69091797f, 0.60839844f, 0.5107422f, 0.76464844f, 0.21557617f,
0.479492188f, 0.27026367f, 0.036621094f, 0.2421875f, -0.22998047f, 0.1574707f, 0.131347656f, 0.124023438f,
0.49926758f, 0.208496094f, 0.6628418f, 0.634765625f, 0.48266602f, 0.7722168f, 0.25561523f, 0.45385742f,
0.29492188f, 0.026611328f, 0.232421875f, -0.173339844f, 0.150634766f, 0.1730957f, 0.068359375f, 0.48388672f,
0.28027344f, 0.664550781f, 0.676513672f, 0.44140625f, 0.762451172f, 0.340820312f, 0.463867188f, 0.33666992f,
0.0126953125f, 0.25463867f, -0.16772461f, 0.1394043f, 0.19848633f, 0.028076172f, 0.488037109f, 0.29052734f,
0.6208496f, 0.6899414f, 0.44506836f, 0.75f, 0.35766602f, 0.44873047f, 0.379882812f, -0.013671875f,
0.26513672f, -0.080322266f, 0.07373047f, 0.19555664f, -0.030761719f, 0.5180664f, 0.2956543f, 0.5751953f,
0.7043457f, 0.40795898f, 0.7956543f, 0.32714844f, 0.5678711f, 0.854736328f, 0.68725586f, 1.1274414f,
0.63720703f, 0.54296875f, 0.58984375f, 0.33129883f, 0.8840332f, 0.690673828f, 0.853515625f, 0.916015625f,
0.4855957f, 0.7458496f, 0.37353516f, 0.5336914f, 0.8569336f, 0.6916504f, 1.0974121f, 0.66064453f,
0.521484375f, 0.6044922f, 0.355712891f, 0.828613281f, 0.69189453f, 0.8383789f, 0.975830078f, 0.48120117f,
0.701171875f, 0.39111328f, 0.48095703f, 0.883300781f, 0.66748047f, 1.0402832f, 0.64868164f, 0.53759766f,
0.65966797f, 0.323242188f, 0.80859375f, 0.71655273f, 0.7746582f, 0.974853516f, 0.50390625f, 0.718261719f,
0.379882812f, 0.44702148f, 0.89575195f, 0.6599121f, 0.992675781f, 0.721923828f, 0.530761719f, 0.656982422f,
0.29614258f, 0.77905273f, 0.7277832f, 0.766113281f, 1.00927734f, 0.53222656f, 0.6899414f, 0.44360352f,
0.46728516f, 0.89624023f,
};
static const npusim_output set0_output[] = {
-98, 17, -62, 36,
};
static const int8_t set0_layer0[] = {
-29, -18, -9, 6, 19, 26, 32, 31, 25, 13, 4, -11, -20, -28, -31, -29,
};
static const int8_t set0_layer0_nhwc[] = {
-29, -19, -12, -18, -62, -36, -9, -55, -24, 6, -46, -8, 19, -69, -17, 26,
};
static const uint8_t set0_layer1[] = {
63, 11, 0, 25, 0, 106, 77, 119, 135, 45, 87, 2, 9, 22, 0, 22,
};
static const uint8_t set0_layer1_nhwc[] = {
63, 73, 185, 57, 0, 127, 0, 102, 11, 52, 249, 103, 151, 209, 0, 121,
};
static const uint8_t set0_layer2[] = {
63, 25, 106, 119, 135, 87, 22, 22, 22, 24, 100, 135, 135, 87, 22, 22,
};
static const uint8_t set0_layer2_nhwc[] = {
63, 73, 249, 103, 151, 209, 0, 121, 25, 52, 249, 103, 151, 255, 0, 151,
};
static const uint8_t set0_layer3[] = {
19, 0, 3, 52, 100, 120, 50, 9, 8, 0, 0, 58, 110, 120, 50, 6,
};
static const uint8_t set0_layer3_nhwc[] = {
19, 69, 0, 0, 158, 251, 221, 0, 0, 0, 168, 30, 0, 0, 221, 102,
};
static const uint8_t set0_layer4[] = {
63, 145, 96, 117, 29, 77, 209, 160, 150, 130, 83, 13, 88, 209, 165, 168,
};
static const uint8_t set0_layer4_nhwc[] = {
63, 13, 142, 0, 73, 208, 0, 0, 0, 0, 113, 167, 141, 106, 32, 0,
};
static const uint8_t set0_layer5[] = {
117, 47, 78, 75, 55, 20, 52, 38, 35, 43, 105, 12, 17, 26, 27, 15,
};
static const int8_t set0_layer6[] = {
-98, 17, -62, 36,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0_nhwc}, {(uint32_t)0x52044365UL, (uint32_t)0x0e9928e0UL}},
    {{set0_layer1, set0_layer1_nhwc}, {(uint32_t)0x69a5953eUL, (uint32_t)0x978efcceUL}},
    {{set0_layer2, set0_layer2_nhwc}, {(uint32_t)0xb6c095daUL, (uint32_t)0xbf188707UL}},
    {{set0_layer3, set0_layer3_nhwc}, {(uint32_t)0x2aa78148UL, (uint32_t)0x3dbc1a1cUL}},
    {{set0_layer4, set0_layer4_nhwc}, {(uint32_t)0x936ca34fUL, (uint32_t)0xe1dc65a9UL}},
    {{set0_layer5, set0_layer5}, {(uint32_t)0x3b179e9eUL, (uint32_t)0x3b179e9eUL}},
    {{set0_layer6, set0_layer6}, {(uint32_t)0xa4f0d1d1UL, (uint32_t)0xa4f0d1d1UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
0.83691406f, 0.18359375f, -0.5102539f, -1.0559082f, -1.43725586f, -1.50439453f, -1.29174805f, -0.78515625f,
-0.162597656f, 0.51342773f, 1.06591797f, 1.47094727f, 1.5148926f, 1.2648926f, 0.78808594f, 0.119384766f,
-0.5270996f, -1.1315918f, -1.45825195f, -1.4951172f, -1.2536621f, -0.7446289f, -0.061767578f, 0.56347656f,
1.14941406f, 1.46533203f, 1.52124023f, 1.2253418f, 0.73217773f, 0.044433594f, -0.61376953f, -1.1906738f,
-1.49194336f, -1.49316406f, -1.1906738f, -0.68725586f, 0.0009765625f, 0.65771484f, 1.2133789f, 1.4790039f,
1.48876953f, 1.2077637f, 0.6694336f, -0.0017089844f, -0.66748047f, -1.1882324f, -1.49243164f, -1.4733887f,
-1.1843262f, -0.59277344f, 0.05493164f, 0.6994629f, 1.2026367f, 1.5102539f, 1.47265625f, 1.1135254f,
0.57836914f, -0.087890625f, -0.7421875f, -1.2260742f, -1.5019531f, -1.4777832f, -1.1027832f, -0.553955078f,
-0.7758789f, -0.93310547f, -0.87524414f, -0.67822266f, -0.30541992f, 0.075927734f, 0.5131836f, 0.756103516f,
0.904541016f, 0.83374023f, 0.65527344f, 0.29589844f, -0.10595703f, -0.51342773f, -0.79956055f, -0.88134766f,
-0.828857422f, -0.61938477f, -0.25341797f, 0.162597656f, 0.5522461f, 0.770263672f, 0.939453125f, 0.828857422f,
0.61376953f, 0.220458984f, -0.14916992f, -0.526611328f, -0.80859375f, -0.88134766f, -0.8540039f,
-0.581298828f, -0.22265625f, 0.19799805f, 0.55493164f, 0.83081055f, 0.9326172f, 0.8178711f, 0.578613281f,
0.21533203f, -0.18701172f, -0.559326172f, -0.8022461f, -0.8955078f, -0.809326172f, -0.57543945f,
-0.196777344f, 0.208984375f, 0.55981445f, 0.84350586f, 0.921386719f, 0.80493164f, 0.55200195f, 0.178222656f,
-0.22973633f, -0.625732422f, -0.854736328f, -0.88183594f, -0.801513672f, -0.53100586f, -0.13769531f,
0.28686523f, 0.638916016f, 0.87060547f, 0.47265625f, 0.859375f, 1.38916016f, 1.6047363f, 1.3652344f,
0.85253906f, 0.42578125f, 0.45996094f, 0.891113281f, 1.36816406f, 1.61572266f, 1.3317871f, 0.8515625f,
0.43701172f, 0.47045898f, 0.921875f, 1.39990234f, 1.5913086f, 1.3623047f, 0.78686523f, 0.40795898f,
0.45825195f, 0.940673828f, 1.41625977f, 1.59936523f, 1.3156738f, 0.7602539f, 0.40551758f, 0.5107422f,
0.97680664f, 1.4482422f, 1.62158203f, 1.28759766f, 0.784423828f, 0.4399414f, 0.5246582f, 0.9716797f,
1.4802246f, 1.56396484f, 1.28637695f, 0.703613281f, 0.41210938f, 0.50878906f, 0.998291016f, 1.46899414f,
1.5932617f, 1.2416992f, 0.73535156f, 0.3996582f, 0.5666504f, 1.0349121f, 1.47558594f, 1.5588379f, 1.2055664f,
0.704833984f, 0.3894043f, 0.5415039f, 1.0649414f, 1.51586914f, 1.578125f, 1.20947266f, 0.64746094f,
0.40307617f, 0.56689453f,
};
static const npusim_output set1_output[] = {
-43, -42, 12, -128,
};
static const int8_t set1_layer0[] = {
53, 12, -32, -66, -90, -95, -81, -49, -10, 33, 67, 93, 96, 80, 50, 8,
};
static const int8_t set1_layer0_nhwc[] = {
53, 70, -29, 12, 84, -8, -32, 79, 20, -66, 61, 31, -90, 28, 18, -95,
};
static const uint8_t set1_layer1[] = {
70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 53, 175, 249, 253, 179, 79,
};
static const uint8_t set1_layer1_nhwc[] = {
70, 1, 0, 0, 114, 0, 255, 0, 0, 0, 0, 72, 0, 0, 255, 0,
};
static const uint8_t set1_layer2[] = {
70, 0, 0, 0, 0, 175, 253, 253, 79, 0, 0, 0, 189, 255, 249, 65,
};
static const uint8_t set1_layer2_nhwc[] = {
70, 1, 0, 72, 114, 0, 255, 0, 0, 165, 0, 213, 0, 0, 255, 0,
};
static const uint8_t set1_layer3[] = {
39, 39, 0, 0, 0, 0, 105, 255, 203, 45, 0, 0, 0, 117, 255, 191,
};
static const uint8_t set1_layer3_nhwc[] = {
39, 140, 0, 0, 13, 14, 221, 0, 39, 0, 28, 0, 0, 77, 0, 48,
};
static const uint8_t set1_layer4[] = {
0, 39, 255, 39, 94, 18, 0, 125, 136, 255, 49, 82, 17, 0, 119, 132,
};
static const uint8_t set1_layer4_nhwc[] = {
0, 6, 132, 107, 97, 129, 93, 0, 211, 163, 32, 0, 193, 0, 0, 22,
};
static const uint8_t set1_layer5[] = {
87, 58, 43, 26, 43, 35, 30, 76, 51, 52, 66, 58, 26, 73, 130, 63,
};
static const int8_t set1_layer6[] = {
-43, -42, 12, -128,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0_nhwc}, {(uint32_t)0xa45bfb51UL, (uint32_t)0x67d5ece8UL}},
    {{set1_layer1, set1_layer1_nhwc}, {(uint32_t)0x63acd9aaUL, (uint32_t)0x44236cf1UL}},
    {{set1_layer2, set1_layer2_nhwc}, {(uint32_t)0xcf384ad0UL, (uint32_t)0xb10bc098UL}},
    {{set1_layer3, set1_layer3_nhwc}, {(uint32_t)0x4bb4ddc8UL, (uint32_t)0x169a9181UL}},
    {{set1_layer4, set1_layer4_nhwc}, {(uint32_t)0x8010f32aUL, (uint32_t)0x48d42b85UL}},
    {{set1_layer5, set1_layer5}, {(uint32_t)0x08f8fbfdUL, (uint32_t)0x08f8fbfdUL}},
    {{set1_layer6, set1_layer6}, {(uint32_t)0xf8c71319UL, (uint32_t)0xf8c71319UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
0.0141601562f, -0.122070312f, -0.220703125f, -0.29296875f, 0.17504883f, 0.43481445f, -0.0632324219f,
-0.25952148f, -0.119140625f, 0.12841797f, 0.2487793f, 0.29345703f, 0.27392578f, 0.26416016f, 0.22680664f,
0.11669922f, 0.0224609375f, -0.13769531f, -0.20288086f, -0.28100586f, 0.2709961f, 0.38745117f, -0.07055664f,
-0.29467773f, -0.115966797f, 0.157958984f, 0.2722168f, 0.26293945f, 0.30126953f, 0.231933594f, 0.22143555f,
0.115966797f, -0.03125f, -0.118896484f, -0.19946289f, -0.2565918f, 0.34277344f, 0.36914062f, -0.125f,
-0.26293945f, -0.0793457031f, 0.154785156f, 0.27978516f, 0.296875f, 0.2993164f, 0.28125f, 0.18481445f,
0.10571289f, -0.0283203125f, -0.108642578f, -0.247802734f, -0.268554688f, 0.371337891f, 0.36694336f,
-0.174316406f, -0.2434082f, -0.05883789f, 0.142822266f, 0.24584961f, 0.30395508f, 0.30322266f, 0.22583008f,
0.1796875f, 0.104492188f, -0.17285156f, -0.16699219f, -0.107421875f, -0.064697266f, 0.17944336f, 0.36328125f,
0.16894531f, 0.106933594f, 0.13378906f, 0.19433594f, 0.116455078f, 0.0830078125f, -0.029296875f, -0.05053711f,
-0.121826172f, -0.13671875f, -0.181152344f, -0.1640625f, -0.123779297f, -0.092285156f, 0.212402344f,
0.36669922f, 0.177246094f, 0.118652344f, 0.138671875f, 0.18701172f, 0.12841797f, 0.041748047f, -0.0234375f,
-0.088378906f, -0.119628906f, -0.15356445f, -0.16040039f, -0.15966797f, -0.099853516f, -0.055664062f,
0.28125f, 0.31884766f, 0.15576172f, 0.07788086f, 0.13208008f, 0.17578125f, 0.122070312f, 0.052978516f,
0.0075683594f, -0.109375f, -0.12597656f, -0.185058594f, -0.18066406f, -0.15625f, -0.112060547f, -0.025634766f,
0.30688477f, 0.29882812f, 0.13549805f, 0.102539062f, 0.12988281f, 0.19140625f, 0.14746094f, 0.03930664f,
-0.00952148438f, -0.0969238281f, -0.108398438f, -0.15942383f, 1.02685547f, 1.09887695f, 1.1069336f,
1.0866699f, 1.36621094f, 1.40527344f, 0.96069336f, 0.78808594f, 0.8947754f, 1.1003418f, 1.1479492f,
1.1140137f, 1.01953125f, 0.914550781f, 0.895263672f, 0.937011719f, 0.98876953f, 1.0908203f, 1.1452637f,
1.079834f, 1.39624023f, 1.3796387f, 0.968017578f, 0.83032227f, 0.91430664f, 1.1225586f, 1.15283203f,
1.0878906f, 0.954833984f, 0.896484375f, 0.90527344f, 0.9428711f, 1.0180664f, 1.08862305f, 1.0983887f,
1.04663086f, 1.41552734f, 1.3352051f, 0.93969727f, 0.82006836f, 0.92944336f, 1.12280273f, 1.14624023f,
1.04833984f, 0.9753418f, 0.90527344f, 0.875f, 0.91967773f, 1.0148926f, 1.09936523f, 1.13134766f, 1.0732422f,
1.4785156f, 1.33325195f, 0.9248047f, 0.797607422f, 0.94799805f, 1.13916016f, 1.15625f, 1.07250977f,
0.9958496f, 0.888916016f, 0.91308594f, 0.95458984f,
};
static const npusim_output set2_output[] = {
22, 14, 3, -11,
};
static const int8_t set2_layer0[] = {
1, -7, -14, -18, 11, 28, -4, -16, -7, 8, 16, 19, 18, 17, 15, 8,
};
static const int8_t set2_layer0_nhwc[] = {
1, 16, 1, -7, 15, 4, -14, 10, 5, -18, 6, 4, 11, -16, 19, 28,
};
static const uint8_t set2_layer1[] = {
12, 0, 0, 0, 0, 16, 74, 23, 0, 0, 26, 40, 67, 62, 60, 45,
};
static const uint8_t set2_layer1_nhwc[] = {
12, 30, 0, 25, 0, 0, 92, 0, 0, 32, 0, 52, 0, 0, 109, 0,
};
static const uint8_t set2_layer2[] = {
12, 0, 16, 74, 23, 40, 67, 62, 45, 9, 27, 68, 19, 55, 65, 65,
};
static const uint8_t set2_layer2_nhwc[] = {
12, 32, 0, 52, 0, 0, 109, 0, 0, 32, 0, 52, 216, 0, 109, 73,
};
static const uint8_t set2_layer3[] = {
3, 0, 0, 37, 31, 0, 24, 48, 57, 12, 0, 43, 16, 1, 30, 52,
};
static const uint8_t set2_layer3_nhwc[] = {
3, 167, 0, 0, 220, 14, 221, 116, 0, 58, 0, 24, 220, 60, 0, 0,
};
static const uint8_t set2_layer4[] = {
20, 5, 4, 23, 0, 0, 0, 0, 0, 0, 0, 26, 0, 0, 0, 0,
};
static const uint8_t set2_layer4_nhwc[] = {
20, 249, 240, 0, 125, 0, 0, 50, 0, 171, 0, 84, 233, 0, 0, 0,
};
static const uint8_t set2_layer5[] = {
5, 45, 50, 39, 93, 58, 81, 33, 55, 58, 15, 96, 62, 67, 83, 35,
};
static const int8_t set2_layer6[] = {
22, 14, 3, -11,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0_nhwc}, {(uint32_t)0xe92bb19aUL, (uint32_t)0x20699e9bUL}},
    {{set2_layer1, set2_layer1_nhwc}, {(uint32_t)0xafc097fcUL, (uint32_t)0x2dea5552UL}},
    {{set2_layer2, set2_layer2_nhwc}, {(uint32_t)0x3238c27bUL, (uint32_t)0x3050af31UL}},
    {{set2_layer3, set2_layer3_nhwc}, {(uint32_t)0x606d94ecUL, (uint32_t)0x45b99482UL}},
    {{set2_layer4, set2_layer4_nhwc}, {(uint32_t)0xc891f886UL, (uint32_t)0xb3009a66UL}},
    {{set2_layer5, set2_layer5}, {(uint32_t)0x77778287UL, (uint32_t)0x77778287UL}},
    {{set2_layer6, set2_layer6}, {(uint32_t)0xb852af05UL, (uint32_t)0xb852af05UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
0.23364258f, 0.212402344f, 0.21191406f, 0.16674805f, 0.13330078f, 0.022949219f, -0.036865234f, -0.124267578f,
-0.21850586f, -0.2199707f, -0.243896484f, -0.23876953f, -0.15673828f, -0.1496582f, -0.016845703f,
0.0473632812f, 0.10546875f, 0.18774414f, 0.21923828f, 0.23535156f, 0.24584961f, 0.17236328f, 0.134521484f,
0.056884766f, -0.005859375f, -0.10571289f, -0.15551758f, -0.18432617f, -0.21362305f, -0.22680664f,
-0.19555664f, -0.17993164f, -0.05493164f, 0.0126953125f, 0.068603516f, 0.14453125f, 0.17993164f, 0.23461914f,
0.228515625f, 0.24316406f, 0.17114258f, 0.0791015625f, 0.024169922f, -0.07421875f, -0.150634766f,
-0.212890625f, -0.217041016f, -0.25585938f, -0.22216797f, -0.181152344f, -0.1340332f, -0.018310547f,
0.0205078125f, 0.0891113281f, 0.16381836f, 0.244384766f, 0.228759766f, 0.20654297f, 0.20996094f, 0.15966797f,
0.056396484f, -0.022216797f, -0.130615234f, -0.174072266f, 0.021240234f, -0.0131835938f, -0.036376953f,
-0.103759766f, -0.12548828f, -0.1472168f, -0.1315918f, -0.14379883f, -0.076171875f, -0.041259766f,
0.000732421875f, 0.034179688f, 0.112304688f, 0.11279297f, 0.14453125f, 0.127441406f, 0.14794922f,
0.100585938f, 0.0830078125f, 0.0087890625f, -0.0310058594f, -0.07836914f, -0.0905761719f, -0.13232422f,
-0.15209961f, -0.15332031f, -0.110839844f, -0.047851562f, -0.0153808594f, 0.046142578f, 0.0847167969f,
0.10888672f, 0.127441406f, 0.125f, 0.111083984f, 0.13769531f, 0.04711914f, 0.043701172f, -0.0192871094f,
-0.042236328f, -0.12084961f, -0.14331055f, -0.13012695f, -0.1394043f, -0.0986328125f, -0.100830078f,
-0.05834961f, 0.028564453f, 0.034179688f, 0.087646484f, 0.138427734f, 0.14941406f, 0.12475586f, 0.100341797f,
0.0754394531f, 0.0231933594f, 0.0087890625f, -0.016357422f, -0.064453125f, -0.146728516f, -0.165771484f,
-0.12573242f, -0.107177734f, -0.125f, 1.05371094f, 0.982666016f, 0.90356445f, 0.89624023f, 0.9255371f,
1.0061035f, 1.02246094f, 1.0786133f, 1.1218262f, 1.04248047f, 0.991455078f, 0.951416016f, 0.912353516f,
0.93652344f, 0.96875f, 1.0415039f, 1.07788086f, 1.0979004f, 1.0839844f, 1.0349121f, 0.976074219f, 0.91625977f,
0.93774414f, 0.966796875f, 1.0319824f, 1.0805664f, 1.09594727f, 1.07299805f, 1.0202637f, 0.9855957f,
0.90893555f, 0.88256836f, 0.944824219f, 1.01904297f, 1.0656738f, 1.0905762f, 1.05810547f, 1.0131836f, 1.0f,
0.93115234f, 0.91064453f, 0.94750977f, 0.9819336f, 1.0515137f, 1.1184082f, 1.1105957f, 1.0583496f, 0.9963379f,
0.92700195f, 0.8852539f, 0.94433594f, 0.9868164f, 1.0456543f, 1.0996094f, 1.0888672f, 1.0878906f, 1.00439453f,
0.9248047f, 0.904541016f, 0.890625f, 0.97387695f, 1.0061035f, 1.0566406f, 1.10131836f,
};
static const npusim_output set3_output[] = {
34, 70, 9, 16,
};
static const int8_t set3_layer0[] = {
15, 14, 14, 11, 9, 2, -2, -8, -13, -14, -15, -15, -10, -9, -1, 3,
};
static const int8_t set3_layer0_nhwc[] = {
15, -2, 2, 14, 1, -2, 14, 3, -6, 11, 9, -6, 9, 11, -5, 2,
};
static const uint8_t set3_layer1[] = {
23, 51, 55, 55, 36, 34, 16, 4, 0, 0, 0, 0, 0, 0, 0, 5,
};
static const uint8_t set3_layer1_nhwc[] = {
23, 3, 6, 0, 71, 0, 52, 23, 51, 0, 6, 0, 47, 0, 53, 4,
};
static const uint8_t set3_layer2[] = {
51, 55, 55, 34, 4, 0, 0, 5, 27, 53, 56, 56, 35, 9, 0, 0,
};
static const uint8_t set3_layer2_nhwc[] = {
51, 3, 6, 0, 71, 0, 53, 23, 55, 0, 6, 0, 63, 0, 65, 4,
};
static const uint8_t set3_layer3[] = {
0, 27, 43, 49, 19, 0, 0, 0, 0, 11, 29, 44, 47, 23, 1, 0,
};
static const uint8_t set3_layer3_nhwc[] = {
0, 248, 0, 31, 73, 14, 215, 0, 27, 243, 0, 23, 0, 14, 56, 0,
};
static const uint8_t set3_layer4[] = {
0, 0, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 11, 2,
};
static const uint8_t set3_layer4_nhwc[] = {
0, 52, 12, 75, 192, 167, 156, 0, 0, 124, 5, 101, 255, 0, 0, 0,
};
static const uint8_t set3_layer5[] = {
1, 6, 47, 67, 98, 72, 112, 3, 55, 69, 11, 74, 95, 55, 56, 37,
};
static const int8_t set3_layer6[] = {
34, 70, 9, 16,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0_nhwc}, {(uint32_t)0xbdc082e6UL, (uint32_t)0x1d522434UL}},
    {{set3_layer1, set3_layer1_nhwc}, {(uint32_t)0x16d7de52UL, (uint32_t)0x9d99112bUL}},
    {{set3_layer2, set3_layer2_nhwc}, {(uint32_t)0x5551fd35UL, (uint32_t)0x803ff505UL}},
    {{set3_layer3, set3_layer3_nhwc}, {(uint32_t)0x312a644dUL, (uint32_t)0x15e7b4edUL}},
    {{set3_layer4, set3_layer4_nhwc}, {(uint32_t)0x2fa25ef1UL, (uint32_t)0x7852d976UL}},
    {{set3_layer5, set3_layer5}, {(uint32_t)0x93d6b8d1UL, (uint32_t)0x93d6b8d1UL}},
    {{set3_layer6, set3_layer6}, {(uint32_t)0x931de2f6UL, (uint32_t)0x931de2f6UL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0xa4f0d1d1UL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0xf8c71319UL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0xb852af05UL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0x931de2f6UL, set3_layers},
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
        npusim_compare(report, set, -1, values, npusim_sets[set].output, NPUSIM_OUTPUT_KEPT, length, NPUSIM_INT8,
                       npusim_sets[set].output_crc);
#ifdef NPUSIM_PUTCHAR
        npusim_tell(set, -1, values, length, NPUSIM_INT8, NPUSIM_NCHW);
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
