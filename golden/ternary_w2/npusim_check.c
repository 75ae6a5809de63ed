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
    {NPUSIM_UINT8, 768},
    {NPUSIM_UINT8, 384},
    {NPUSIM_UINT8, 384},
    {NPUSIM_UINT8, 384},
    {NPUSIM_UINT8, 16},
    {NPUSIM_UINT8, 4},
    {NPUSIM_FLOAT, 4},
};

#if NPUSIM_CHECK_SETS > 0
static const npusim_input set0_input[] = {
-1.4169922f, -0.5234375f, -0.7158203f, -0.426757812f, -0.36328125f, -0.40820312f, -0.484375f, 0.30859375f,
-0.015625f, 0.8720703f, 0.9921875f, 0.90722656f, 1.3076172f, 1.4169922f, 1.4580078f, 0.8203125f, 0.3671875f,
0.546875f, 0.31933594f, -0.162109375f, -0.556640625f, -0.17578125f, -0.9091797f, -0.8017578f, -1.2421875f,
-1.12597656f, -0.7685547f, -1.3125f, -0.806640625f, -0.42089844f, -0.142578125f, 0.20996094f, -0.130859375f,
0.64746094f, 0.234375f, 1.18359375f, 1.2285156f, 0.57714844f, 1.3955078f, 0.48339844f, 1.08203125f,
0.15527344f, 0.33691406f, -0.424804688f, -0.41796875f, -0.18261719f, -0.6689453f, -0.51171875f, -0.8203125f,
-0.75f, -1.2519531f, -1.2060547f, -0.919921875f, -0.51953125f, -0.68847656f, -0.49609375f, -0.177734375f,
-0.0087890625f, 0.48339844f, 0.91503906f, 0.8671875f, 1.3076172f, 0.7373047f, 0.94921875f, 0.9736328f,
0.42285156f, -0.034179688f, 0.479492188f, -0.5185547f, 0.0791015625f, -0.744140625f, -0.63183594f,
-1.12890625f, -0.53808594f, -0.7607422f, -1.40722656f, -0.95214844f, -0.5029297f, -0.270507812f,
-0.0302734375f, 0.385742188f, 0.078125f, 0.18066406f, 0.71777344f, 0.49121094f, 0.646484375f, 0.958984375f,
1.1660156f, 0.71777344f, 0.49414062f, 0.822265625f, 0.497070312f, -0.248046875f, -0.6845703f, -0.87890625f,
-0.5361328f, -0.495117188f, -1.1152344f, -1.359375f, -1.2597656f, -1.30078125f, -0.16699219f, -0.40429688f,
-0.609375f, -0.078125f, 0.5908203f, 0.55078125f, 0.61328125f, 1.13671875f, 1.12597656f, 1.41503906f,
1.15527344f, 0.9736328f, 0.9267578f, 0.4765625f, -0.09765625f, -0.25390625f, -0.59375f, -0.0966796875f,
-0.533203125f, -0.61328125f, -1.09277344f, -1.11816406f, -0.8828125f, -0.705078125f, -0.24316406f,
-0.23828125f, 0.099609375f, 0.362304688f, 0.36035156f, 0.744140625f, 1.0390625f, 0.87890625f, 0.5126953f,
0.5361328f, 1.08496094f, 1.2939453f, 0.54003906f, 0.970703125f, 0.203125f, 0.47070312f, -0.6845703f,
-0.798828125f, -0.5078125f, -0.71875f, -1.05566406f, -1.1455078f, -0.9375f, -0.9140625f, -0.38964844f,
-0.36132812f, -0.046875f, 0.42871094f, 0.53515625f, 0.603515625f, 0.32128906f, 0.7861328f, 0.67578125f,
0.56933594f, 0.63183594f, 0.74902344f, 1.2314453f, 1.0390625f, 0.0625f, 0.0224609375f, -0.30664062f,
0.0224609375f, -0.73339844f, -0.3359375f, -1.2910156f, -0.72265625f, -0.75878906f, -1.11621094f, -0.71875f,
-1.0654297f, -0.7158203f, -0.44921875f, 0.14550781f, 0.14746094f, 0.150390625f, 0.98339844f, 0.9501953f,
1.40527344f, 0.943359375f, 1.13671875f, 1.2216797f, 0.763671875f, 0.79785156f, 0.25683594f, -0.5048828f,
-0.497070312f, -0.734375f,
};
static const npusim_output set0_output[] = {
0.055072412f, 0.08077287f, 0.0f, 0.022028964f,
};
static const int8_t set0_layer0[] = {
-123, -54, -69, -46, -41, -45, -51, 11, -14, 55, 64, 58, 89, 97, 101, 51,
};
static const int8_t set0_layer0_nhwc[] = {
-123, -77, -39, -65, -54, -71, -91, -93, -69, -109, -111, -100, -46, -106, -103, -83,
};
static const uint8_t set0_layer1[] = {
1, 47, 12, 0, 0, 0, 16, 43, 35, 48, 54, 28, 37, 26, 0, 27,
};
static const uint8_t set0_layer1_nhwc[] = {
1, 118, 124, 0, 0, 0, 92, 0, 0, 51, 197, 69, 14, 0, 29, 0,
};
static const uint8_t set0_layer2[] = {
26, 7, 1, 32, 45, 45, 35, 15, 69, 74, 20, 9, 9, 1, 1, 1,
};
static const uint8_t set0_layer2_nhwc[] = {
26, 148, 97, 1, 32, 0, 144, 40, 1, 85, 215, 85, 9, 14, 17, 1,
};
static const uint8_t set0_layer3[] = {
0, 0, 0, 0, 0, 3, 0, 0, 0, 23, 4, 0, 0, 0, 0, 0,
};
static const uint8_t set0_layer3_nhwc[] = {
0, 116, 0, 18, 0, 6, 106, 10, 8, 89, 70, 54, 16, 46, 35, 0,
};
static const uint8_t set0_layer4[] = {
33, 32, 17, 14, 14, 43, 63, 81, 101, 99, 70, 58, 41, 45, 14, 14,
};
static const uint8_t set0_layer4_nhwc[] = {
33, 78, 42, 0, 4, 0, 0, 124, 159, 86, 151, 0, 0, 0, 0, 21,
};
static const uint8_t set0_layer5[] = {
52, 99, 62, 129, 12, 180, 92, 211, 161, 195, 181, 44, 5, 85, 10, 157,
};
static const uint8_t set0_layer6[] = {
15, 22, 0, 6,
};
static const float set0_layer7[] = {
0.055072412f, 0.08077287f, 0.0f, 0.022028964f,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0_nhwc}, {(uint32_t)0x93258392UL, (uint32_t)0x21e54246UL}},
    {{set0_layer1, set0_layer1_nhwc}, {(uint32_t)0xfea860a8UL, (uint32_t)0x09cd7d28UL}},
    {{set0_layer2, set0_layer2_nhwc}, {(uint32_t)0x3743b824UL, (uint32_t)0x112a79b8UL}},
    {{set0_layer3, set0_layer3_nhwc}, {(uint32_t)0xf05d5df8UL, (uint32_t)0x509d257cUL}},
    {{set0_layer4, set0_layer4_nhwc}, {(uint32_t)0x028ccc95UL, (uint32_t)0xfe5bcd30UL}},
    {{set0_layer5, set0_layer5}, {(uint32_t)0x1f46e26aUL, (uint32_t)0x1f46e26aUL}},
    {{set0_layer6, set0_layer6}, {(uint32_t)0x88efb5bdUL, (uint32_t)0x88efb5bdUL}},
    {{set0_layer7, set0_layer7}, {(uint32_t)0x9de8ed74UL, (uint32_t)0x9de8ed74UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
0.55078125f, 1.00683594f, 0.71484375f, 0.86035156f, 1.109375f, 1.2207031f, 0.7890625f, 0.54003906f,
0.8720703f, 0.64941406f, 0.49023438f, 0.962890625f, 0.865234375f, -0.044921875f, 0.4140625f, 0.67871094f,
-0.017578125f, 0.6171875f, 0.29492188f, 0.43652344f, -0.489257812f, -0.37695312f, -0.033203125f, 0.138671875f,
-0.185546875f, 0.056640625f, 0.083984375f, -0.68066406f, -0.5341797f, -0.74609375f, -0.260742188f,
-0.14453125f, -0.346679688f, -1.1748047f, -0.323242188f, -0.93066406f, -1.1796875f, -0.5625f, -1.3544922f,
-0.75878906f, -0.6201172f, -1.10253906f, -0.86621094f, -0.99902344f, -0.51660156f, -0.884765625f, -1.1591797f,
-0.9970703f, -1.3671875f, -0.6142578f, -1.27734375f, -0.53808594f, -0.77441406f, -0.90234375f, -1.3378906f,
-1.0185547f, -0.75878906f, -0.401367188f, -0.46875f, -0.76660156f, -0.888671875f, -0.59765625f, -0.8359375f,
-0.296875f, -0.99316406f, -0.13964844f, -0.5751953f, -0.115234375f, -0.16894531f, -0.552734375f, -0.69921875f,
0.15332031f, -0.28515625f, -0.22363281f, -0.02734375f, 0.13574219f, -0.387695312f, -0.17578125f, 0.331054688f,
0.20703125f, 0.16796875f, 0.64941406f, 0.72265625f, 0.521484375f, 0.603515625f, 0.0927734375f, 0.53515625f,
0.88183594f, 0.15332031f, 1.08496094f, 1.1484375f, 1.0517578f, 1.1923828f, 0.36523438f, 0.8857422f,
1.3203125f, 0.947265625f, 1.3154297f, 0.7783203f, 1.04589844f, 0.70410156f, 1.2050781f, 0.6669922f,
0.95996094f, 0.84375f, 1.2558594f, 1.4580078f, 0.828125f, 0.95410156f, 0.66796875f, 1.23046875f, 1.3378906f,
0.53222656f, 1.04296875f, 1.1015625f, 0.5654297f, 0.51953125f, 0.9169922f, 1.0966797f, 0.9345703f, 0.65625f,
0.333007812f, 0.06640625f, 0.85058594f, 0.0234375f, 0.40625f, 0.377929688f, 0.424804688f, -0.16113281f,
-0.046875f, 0.0263671875f, 0.31445312f, -0.171875f, -0.442382812f, -0.309570312f, -0.0087890625f,
-0.41503906f, 0.021484375f, -0.58691406f, -0.0966796875f, -0.39257812f, -0.814453125f, -0.53222656f,
-0.284179688f, -0.56347656f, -0.904296875f, -0.880859375f, -0.286132812f, -1.10058594f, -1.2919922f,
-0.453125f, -1.35839844f, -0.5263672f, -1.2109375f, -1.20214844f, -0.7529297f, -0.93359375f, -0.603515625f,
-0.60839844f, -0.9375f, -0.98828125f, -0.736328125f, -0.62402344f, -0.5888672f, -0.640625f, -1.33691406f,
-0.5859375f, -0.99121094f, -1.03808594f, -0.50390625f, -0.6484375f, -0.796875f, -0.8310547f, -1.1347656f,
-0.70996094f, -0.47070312f, -0.60839844f, -0.12792969f, -0.634765625f, -0.69921875f, -0.6767578f,
-0.78027344f, 0.0f, -0.35351562f, 0.0712890625f, -0.49023438f, -0.0078125f, -0.0166015625f, -0.30859375f,
-0.228515625f, -0.048828125f, 0.64746094f,
};
static const npusim_output set1_output[] = {
0.022028964f, 0.0f, 0.0f, 0.00367149408f,
};
static const int8_t set1_layer0[] = {
30, 65, 43, 54, 73, 82, 48, 29, 55, 38, 25, 62, 54, -16, 19, 40,
};
static const int8_t set1_layer0_nhwc[] = {
30, -118, 82, -52, 65, -61, 112, -80, 43, -111, 67, -78, 54, -55, 90, -29,
};
static const uint8_t set1_layer1[] = {
0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set1_layer1_nhwc[] = {
0, 70, 54, 0, 27, 0, 0, 62, 0, 0, 45, 102, 0, 88, 0, 0,
};
static const uint8_t set1_layer2[] = {
7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
};
static const uint8_t set1_layer2_nhwc[] = {
7, 44, 46, 1, 53, 0, 0, 44, 1, 1, 27, 102, 1, 72, 1, 1,
};
static const uint8_t set1_layer3[] = {
0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set1_layer3_nhwc[] = {
0, 16, 0, 18, 28, 6, 22, 11, 8, 2, 0, 65, 8, 0, 31, 0,
};
static const uint8_t set1_layer4[] = {
35, 29, 28, 24, 18, 19, 23, 20, 17, 16, 23, 17, 19, 32, 16, 27,
};
static const uint8_t set1_layer4_nhwc[] = {
35, 0, 21, 0, 0, 0, 33, 36, 65, 119, 51, 0, 0, 0, 0, 82,
};
static const uint8_t set1_layer5[] = {
36, 18, 24, 9, 13, 2, 90, 172, 146, 220, 145, 25, 5, 21, 12, 215,
};
static const uint8_t set1_layer6[] = {
6, 0, 0, 1,
};
static const float set1_layer7[] = {
0.022028964f, 0.0f, 0.0f, 0.00367149408f,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0_nhwc}, {(uint32_t)0x0e198f70UL, (uint32_t)0x34608409UL}},
    {{set1_layer1, set1_layer1_nhwc}, {(uint32_t)0xe64bad6bUL, (uint32_t)0xe84c9881UL}},
    {{set1_layer2, set1_layer2_nhwc}, {(uint32_t)0xee1ee169UL, (uint32_t)0x3034a85eUL}},
    {{set1_layer3, set1_layer3_nhwc}, {(uint32_t)0x70a64131UL, (uint32_t)0x57d5a3e5UL}},
    {{set1_layer4, set1_layer4_nhwc}, {(uint32_t)0x0b812715UL, (uint32_t)0x6585a147UL}},
    {{set1_layer5, set1_layer5}, {(uint32_t)0x5877d6efUL, (uint32_t)0x5877d6efUL}},
    {{set1_layer6, set1_layer6}, {(uint32_t)0x7328b056UL, (uint32_t)0x7328b056UL}},
    {{set1_layer7, set1_layer7}, {(uint32_t)0xc314d6ebUL, (uint32_t)0xc314d6ebUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
1.43359375f, 0.6142578f, 1.1298828f, 0.36914062f, 0.26171875f, -0.25195312f, 0.0234375f, -0.385742188f,
-1.0957031f, -1.0029297f, -1.06640625f, -0.7314453f, -0.646484375f, -0.546875f, -1.1767578f, -0.46777344f,
0.16015625f, 0.45410156f, 0.6142578f, 0.13574219f, 0.34179688f, 0.36328125f, 1.375f, 0.978515625f, 1.0576172f,
1.3496094f, 1.0722656f, 0.900390625f, 0.60058594f, 0.18847656f, -0.677734375f, -0.603515625f, -0.21191406f,
-0.87890625f, -1.15625f, -1.1064453f, -0.73339844f, -0.79296875f, -0.900390625f, -0.42285156f, -0.307617188f,
-0.27929688f, -0.0732421875f, 0.5029297f, 0.232421875f, 0.479492188f, 1.28027344f, 0.69433594f, 1.06933594f,
1.3408203f, 0.8173828f, 0.236328125f, 0.055664062f, 0.68066406f, 0.28808594f, -0.791015625f, -0.31933594f,
-1.1425781f, -0.60058594f, -1.16796875f, -0.7001953f, -1.33691406f, -1.02246094f, -1.0527344f, -0.708984375f,
-0.12988281f, -0.33398438f, -0.22363281f, 0.18457031f, 0.265625f, 1.25f, 1.2919922f, 0.7705078f, 0.473632812f,
0.46289062f, 1.0517578f, 0.489257812f, -0.17089844f, -0.119140625f, 0.055664062f, -0.90234375f, -0.689453125f,
-0.65527344f, -1.0673828f, -1.1972656f, -0.595703125f, -1.13964844f, -1.18847656f, -0.453125f, -0.29296875f,
0.049804688f, -0.16113281f, 0.23925781f, 1.11816406f, 0.375f, 1.0810547f, 1.45703125f, 0.7451172f, 0.78125f,
1.29296875f, 0.9609375f, 0.0751953125f, -0.12890625f, -0.39160156f, -0.372070312f, -0.50390625f, -0.33203125f,
-1.14746094f, -1.10058594f, -0.669921875f, -0.5517578f, -0.8486328f, -0.37304688f, -0.59375f, 0.25976562f,
0.021484375f, 0.338867188f, 0.654296875f, 0.841796875f, 0.791015625f, 0.91015625f, 1.4609375f, 0.53515625f,
1.35546875f, 0.568359375f, 0.603515625f, 0.48535156f, 0.102539062f, -0.34179688f, -0.67578125f, -0.9013672f,
-0.89746094f, -0.63378906f, -0.544921875f, -1.05371094f, -0.40820312f, -0.338867188f, -0.28710938f,
-0.7607422f, -0.2734375f, -0.25683594f, 0.27539062f, 0.28320312f, 0.67089844f, 0.59375f, 0.8095703f,
1.2236328f, 0.76953125f, 0.791015625f, 0.385742188f, 0.642578125f, -0.18066406f, -0.220703125f, -0.102539062f,
-0.26171875f, -0.495117188f, -0.90234375f, -1.4199219f, -1.21484375f, -0.46972656f, -0.89746094f,
-0.42578125f, -0.30566406f, -0.19140625f, -0.31933594f, 0.5048828f, 0.521484375f, 1.04785156f, 1.0810547f,
1.4169922f, 0.94921875f, 0.5048828f, 1.2080078f, 1.09277344f, 0.66015625f, 0.35058594f, 0.35742188f,
-0.56347656f, -0.05859375f, -1.13671875f, -1.1855469f, -0.890625f, -1.42871094f, -0.6455078f, -0.9873047f,
-0.24121094f, -0.72265625f, -0.364257812f, 0.325195312f, 0.0693359375f, 0.95703125f, 0.79296875f,
};
static const npusim_output set2_output[] = {
0.044057928f, 0.058743905f, 0.0f, 0.00734298816f,
};
static const int8_t set2_layer0[] = {
99, 35, 75, 16, 7, -33, -11, -43, -98, -91, -96, -70, -63, -56, -105, -49,
};
static const int8_t set2_layer0_nhwc[] = {
99, 67, 124, 44, 35, 87, 65, 61, 75, 48, 68, 96, 16, 3, 110, 58,
};
static const uint8_t set2_layer1[] = {
52, 35, 7, 44, 90, 86, 24, 3, 24, 16, 78, 28, 0, 0, 5, 8,
};
static const uint8_t set2_layer1_nhwc[] = {
52, 0, 0, 100, 52, 63, 0, 0, 79, 0, 0, 0, 50, 31, 1, 18,
};
static const uint8_t set2_layer2[] = {
47, 28, 95, 15, 22, 58, 1, 8, 4, 1, 24, 53, 88, 57, 33, 91,
};
static const uint8_t set2_layer2_nhwc[] = {
47, 1, 0, 123, 34, 75, 0, 2, 52, 1, 0, 0, 102, 15, 6, 50,
};
static const uint8_t set2_layer3[] = {
0, 0, 15, 10, 0, 0, 0, 0, 0, 0, 0, 0, 22, 24, 3, 16,
};
static const uint8_t set2_layer3_nhwc[] = {
0, 0, 0, 18, 11, 108, 11, 0, 0, 2, 0, 2, 112, 0, 41, 0,
};
static const uint8_t set2_layer4[] = {
62, 78, 110, 68, 54, 41, 38, 14, 14, 15, 26, 66, 91, 100, 87, 121,
};
static const uint8_t set2_layer4_nhwc[] = {
62, 0, 113, 6, 0, 36, 33, 34, 74, 75, 63, 53, 0, 0, 3, 62,
};
static const uint8_t set2_layer5[] = {
53, 64, 56, 140, 14, 149, 108, 215, 148, 215, 182, 33, 5, 30, 10, 167,
};
static const uint8_t set2_layer6[] = {
12, 16, 0, 2,
};
static const float set2_layer7[] = {
0.044057928f, 0.058743905f, 0.0f, 0.00734298816f,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0_nhwc}, {(uint32_t)0x72118257UL, (uint32_t)0xe6df89baUL}},
    {{set2_layer1, set2_layer1_nhwc}, {(uint32_t)0x4a2e2a95UL, (uint32_t)0xc0b51cb0UL}},
    {{set2_layer2, set2_layer2_nhwc}, {(uint32_t)0xac7e165fUL, (uint32_t)0x297792faUL}},
    {{set2_layer3, set2_layer3_nhwc}, {(uint32_t)0xa4bc838dUL, (uint32_t)0x9d5dd727UL}},
    {{set2_layer4, set2_layer4_nhwc}, {(uint32_t)0x2791b7ddUL, (uint32_t)0xf3540aa1UL}},
    {{set2_layer5, set2_layer5}, {(uint32_t)0x9335f920UL, (uint32_t)0x9335f920UL}},
    {{set2_layer6, set2_layer6}, {(uint32_t)0x99baa2f8UL, (uint32_t)0x99baa2f8UL}},
    {{set2_layer7, set2_layer7}, {(uint32_t)0xce12358dUL, (uint32_t)0xce12358dUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
-0.5830078f, 0.0712890625f, -0.24707031f, -0.29101562f, -0.61035156f, -1.1621094f, -1.1767578f, -1.38671875f,
-1.3466797f, -1.45410156f, -0.8359375f, -1.3046875f, -1.4003906f, -1.0136719f, -0.9091797f, -0.416992188f,
-0.92089844f, -0.61035156f, -0.22753906f, 0.27246094f, 0.3984375f, 0.33691406f, 0.5517578f, 0.3046875f,
0.75683594f, 0.58691406f, 0.8095703f, 1.3466797f, 1.3251953f, 0.560546875f, 1.4765625f, 1.0546875f,
0.6513672f, 0.93847656f, 0.74121094f, 0.6982422f, 0.37695312f, 0.78125f, -0.122070312f, -0.13378906f,
-0.38964844f, 0.11328125f, 0.142578125f, 0.0205078125f, -0.55859375f, -0.607421875f, -1.0292969f, -1.3701172f,
-1.2949219f, -0.81347656f, -1.00390625f, -1.2675781f, -0.708984375f, -1.0546875f, -0.448242188f, -0.84472656f,
-0.642578125f, -0.703125f, -0.299804688f, -0.12109375f, -0.564453125f, 0.45507812f, 0.421875f, 0.36132812f,
0.53222656f, 0.9140625f, 1.03808594f, 0.8359375f, 1.0546875f, 0.78027344f, 0.974609375f, 0.775390625f,
1.0800781f, 0.513671875f, 1.20703125f, 0.35742188f, 0.994140625f, 0.17089844f, 0.19433594f, 0.580078125f,
-0.3125f, -0.20605469f, -0.47753906f, -0.208984375f, -0.541015625f, -0.55078125f, -0.5908203f, -1.0136719f,
-1.36035156f, -0.4765625f, -0.779296875f, -1.0703125f, -1.2363281f, -0.986328125f, -1.16308594f, -0.35546875f,
-1.09472656f, -1.10253906f, -0.78808594f, 0.16015625f, -0.53125f, -0.28125f, 0.38671875f, 0.32226562f,
0.830078125f, 0.955078125f, 0.6845703f, 1.140625f, 0.75097656f, 0.463867188f, 0.59765625f, 1.13183594f,
1.1328125f, 0.578125f, 0.96972656f, 1.2939453f, 0.5185547f, 0.880859375f, 0.078125f, -0.045898438f,
0.59472656f, 0.421875f, 0.32714844f, -0.65625f, -0.0869140625f, -0.25390625f, -0.42773438f, -0.9716797f,
-1.2363281f, -0.57714844f, -0.890625f, -1.23828125f, -0.6982422f, -1.04785156f, -1.3876953f, -0.8154297f,
-0.8623047f, -0.79296875f, -0.4296875f, -0.38085938f, 0.19042969f, 0.0390625f, -0.0166015625f, -0.124023438f,
0.169921875f, 0.29785156f, 1.0029297f, 0.7763672f, 1.26171875f, 0.6689453f, 1.29003906f, 0.65527344f,
0.833984375f, 1.2705078f, 0.47070312f, 1.3466797f, 0.802734375f, 0.58691406f, 0.2265625f, 0.86328125f,
0.118164062f, 0.568359375f, -0.056640625f, -0.0693359375f, -0.41015625f, -0.053710938f, -0.268554688f,
-0.541015625f, -1.1591797f, -0.8935547f, -0.984375f, -1.4121094f, -1.4667969f, -0.64746094f, -0.693359375f,
-0.9736328f, -0.56640625f, -0.9423828f, -0.9560547f, -0.72265625f, -0.37695312f, 0.158203125f, -0.09375f,
0.372070312f, 0.61035156f, 0.41210938f, 0.31347656f, 0.15136719f, 0.56640625f, 0.48828125f, 0.66015625f,
0.456054688f,
};
static const npusim_output set3_output[] = {
0.055072412f, 0.106473327f, 0.0f, 0.022028964f,
};
static const int8_t set3_layer0[] = {
-58, -7, -32, -36, -61, -104, -105, -121, -118, -126, -78, -115, -122, -92, -84, -45,
};
static const int8_t set3_layer0_nhwc[] = {
-58, -113, -89, 9, -7, -76, -90, 19, -32, -91, -64, 77, -36, -111, 16, 59,
};
static const uint8_t set3_layer1[] = {
71, 76, 30, 47, 60, 5, 51, 14, 91, 66, 68, 83, 72, 95, 24, 42,
};
static const uint8_t set3_layer1_nhwc[] = {
71, 0, 8, 0, 0, 0, 128, 0, 0, 63, 120, 52, 30, 71, 61, 83,
};
static const uint8_t set3_layer2[] = {
80, 42, 36, 36, 85, 82, 91, 36, 56, 43, 35, 7, 1, 3, 1, 3,
};
static const uint8_t set3_layer2_nhwc[] = {
80, 1, 4, 1, 68, 0, 164, 39, 1, 48, 116, 44, 19, 134, 35, 90,
};
static const uint8_t set3_layer3[] = {
0, 15, 0, 0, 14, 32, 34, 17, 3, 6, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set3_layer3_nhwc[] = {
0, 26, 0, 18, 20, 6, 90, 9, 8, 11, 0, 29, 26, 102, 55, 0,
};
static const uint8_t set3_layer4[] = {
48, 63, 64, 62, 41, 48, 50, 37, 48, 42, 50, 39, 26, 7, 26, 28,
};
static const uint8_t set3_layer4_nhwc[] = {
48, 71, 36, 0, 0, 0, 0, 97, 60, 75, 48, 42, 0, 0, 0, 0,
};
static const uint8_t set3_layer5[] = {
40, 39, 50, 71, 63, 65, 70, 137, 158, 143, 91, 112, 5, 100, 46, 195,
};
static const uint8_t set3_layer6[] = {
15, 29, 0, 6,
};
static const float set3_layer7[] = {
0.055072412f, 0.106473327f, 0.0f, 0.022028964f,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0_nhwc}, {(uint32_t)0x14a4e37bUL, (uint32_t)0x9f27656eUL}},
    {{set3_layer1, set3_layer1_nhwc}, {(uint32_t)0x53138340UL, (uint32_t)0xa86174dbUL}},
    {{set3_layer2, set3_layer2_nhwc}, {(uint32_t)0x6bde9f0fUL, (uint32_t)0x83a72daaUL}},
    {{set3_layer3, set3_layer3_nhwc}, {(uint32_t)0x15877287UL, (uint32_t)0xcd2fe33dUL}},
    {{set3_layer4, set3_layer4_nhwc}, {(uint32_t)0x07da14efUL, (uint32_t)0x51d4cb90UL}},
    {{set3_layer5, set3_layer5}, {(uint32_t)0x93990a6bUL, (uint32_t)0x93990a6bUL}},
    {{set3_layer6, set3_layer6}, {(uint32_t)0x84ba5a5cUL, (uint32_t)0x84ba5a5cUL}},
    {{set3_layer7, set3_layer7}, {(uint32_t)0x8041ec09UL, (uint32_t)0x8041ec09UL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0x9de8ed74UL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0xc314d6ebUL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0xce12358dUL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0x8041ec09UL, set3_layers},
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
