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
    {NPUSIM_INT8, 128},
    {NPUSIM_UINT8, 256},
    {NPUSIM_UINT8, 256},
    {NPUSIM_UINT8, 256},
    {NPUSIM_UINT8, 128},
    {NPUSIM_UINT8, 128},
    {NPUSIM_INT8, 4},
};

#if NPUSIM_CHECK_SETS > 0
static const npusim_input set0_input[] = {
2.109375f, 1.7363281f, 1.5917969f, 1.65625f, 1.40722656f, 1.3310547f, 1.67578125f, 1.9638672f, 1.7871094f,
2.2636719f, 2.2685547f, 2.55566406f, 2.6953125f, 2.5722656f, 2.2929688f, 2.5429688f, 2.1484375f, 2.0429688f,
2.0283203f, 1.8671875f, 1.4169922f, 1.53222656f, 1.7548828f, 1.7060547f, 1.5673828f, 2.0498047f, 2.1210938f,
2.2578125f, 2.2128906f, 2.5419922f, 2.71875f, 2.4316406f, 2.1669922f, 2.1591797f, 2.2822266f, 1.7685547f,
1.7841797f, 1.734375f, 1.46777344f, 1.63183594f, 1.5517578f, 1.8564453f, 1.6201172f, 1.75683594f, 2.2763672f,
2.2949219f, 2.5273438f, 2.2597656f, 2.7021484f, 2.5673828f, 2.3007812f, 2.2822266f, 2.2773438f, 1.9248047f,
1.64160156f, 1.38183594f, 1.453125f, 1.7294922f, 1.52246094f, 1.6220703f, 2.015625f, 1.76953125f, 2.1708984f,
2.1083984f, 2.36621094f, 2.6523438f, 2.43066406f, 2.38378906f, 2.1298828f, 1.9941406f, 2.11816406f,
1.9091797f, 1.4873047f, 1.66796875f, 1.7421875f, 1.3515625f, 1.42285156f, 1.8125f, 1.69921875f, 2.3164062f,
2.1455078f, 2.3134766f, 2.2988281f, 2.3310547f, 2.5888672f, 2.5888672f, 1.9970703f, 2.2480469f, 1.6699219f,
1.5566406f, 1.5332031f, 1.4863281f, 1.2841797f, 1.6171875f, 1.671875f, 1.97753906f, 1.99609375f, 2.2236328f,
2.3642578f, 2.2871094f, 2.57128906f, 2.5419922f, 2.4082031f, 2.2714844f, 1.88671875f, 2.1875f, 1.7060547f,
1.7519531f, 1.7392578f, 1.41308594f, 1.4716797f, 1.5625f, 1.81933594f, 1.72558594f, 2.03808594f, 2.4257812f,
2.2636719f, 2.2539062f, 2.4101562f, 2.3720703f, 2.5722656f, 2.3691406f, 2.0947266f, 1.77441406f, 1.7011719f,
1.76953125f, 1.6152344f, 1.3886719f,
};
static const npusim_output set0_output[] = {
1, -25, -2, -29,
};
static const int8_t set0_layer0[] = {
22, -39, -63, -53, -94, -106, -49, -2, -31, 47, 48, 95, 118, 98, 52, 93,
};
static const int8_t set0_layer0_nhwc[] = {
22, 33, 63, 3, -39, 32, 111, 41, -63, 52, 74, 65, -53, -32, 66, 52,
};
static const uint8_t set0_layer1[] = {
0, 12, 52, 41, 53, 49, 12, 37, 0, 0, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set0_layer1_nhwc[] = {
0, 0, 91, 24, 0, 0, 145, 16, 12, 0, 149, 0, 4, 0, 109, 28,
};
static const uint8_t set0_layer2[] = {
152, 94, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 18, 78,
};
static const uint8_t set0_layer2_nhwc[] = {
152, 0, 71, 0, 20, 53, 0, 21, 94, 0, 0, 0, 92, 0, 0, 72,
};
static const uint8_t set0_layer3[] = {
15, 68, 109, 92, 93, 96, 48, 73, 62, 47, 56, 47, 66, 49, 50, 32,
};
static const uint8_t set0_layer3_nhwc[] = {
15, 0, 77, 93, 0, 31, 129, 0, 68, 0, 161, 55, 0, 47, 115, 0,
};
static const uint8_t set0_layer4[] = {
68, 109, 96, 73, 62, 56, 66, 50, 79, 67, 140, 50, 61, 61, 66, 53,
};
static const uint8_t set0_layer4_nhwc[] = {
68, 0, 161, 93, 0, 47, 129, 0, 109, 0, 180, 10, 0, 5, 98, 26,
};
static const uint8_t set0_layer5[] = {
68, 109, 96, 73, 62, 56, 66, 50, 79, 67, 140, 50, 61, 61, 66, 53,
};
static const int8_t set0_layer6[] = {
1, -25, -2, -29,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0_nhwc}, {(uint32_t)0xb53e9b64UL, (uint32_t)0x8d4a1ee0UL}},
    {{set0_layer1, set0_layer1_nhwc}, {(uint32_t)0x007e1223UL, (uint32_t)0x02e7ca7dUL}},
    {{set0_layer2, set0_layer2_nhwc}, {(uint32_t)0xaa3bcbfbUL, (uint32_t)0x1d341323UL}},
    {{set0_layer3, set0_layer3_nhwc}, {(uint32_t)0xc22d70e0UL, (uint32_t)0x52d6799cUL}},
    {{set0_layer4, set0_layer4_nhwc}, {(uint32_t)0xeea47589UL, (uint32_t)0xd868dbeeUL}},
    {{set0_layer5, set0_layer5}, {(uint32_t)0xeea47589UL, (uint32_t)0xeea47589UL}},
    {{set0_layer6, set0_layer6}, {(uint32_t)0x866901adUL, (uint32_t)0x866901adUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
2.0419922f, 2.2353516f, 2.015625f, 2.10058594f, 1.99316406f, 2.05566406f, 2.1015625f, 2.22753906f, 2.1210938f,
2.3076172f, 2.1171875f, 2.5820312f, 2.2363281f, 2.53808594f, 2.36816406f, 2.2958984f, 2.71191406f, 2.6601562f,
2.6298828f, 2.4248047f, 2.328125f, 2.5419922f, 2.6035156f, 2.7070312f, 2.5751953f, 2.3515625f, 2.4472656f,
2.4814453f, 2.2714844f, 2.3710938f, 2.4697266f, 2.3408203f, 2.2988281f, 2.24316406f, 2.52441406f, 2.33496094f,
2.4804688f, 2.1972656f, 2.2050781f, 2.1699219f, 2.1191406f, 2.2714844f, 2.0605469f, 2.0859375f, 1.8798828f,
1.9824219f, 1.78515625f, 2.08496094f, 1.93066406f, 1.91015625f, 1.91015625f, 1.9658203f, 1.88183594f,
1.8417969f, 1.76660156f, 1.83984375f, 1.4824219f, 1.79785156f, 1.51953125f, 1.8339844f, 1.4550781f,
1.7832031f, 1.4003906f, 1.3330078f, 1.42285156f, 1.4941406f, 1.51953125f, 1.41796875f, 1.5605469f,
1.34277344f, 1.70703125f, 1.37109375f, 1.3300781f, 1.6435547f, 1.75097656f, 1.45410156f, 1.51464844f,
1.63671875f, 1.3535156f, 1.7578125f, 1.67285156f, 1.62890625f, 1.65625f, 1.9003906f, 1.7451172f, 1.9472656f,
1.640625f, 1.68066406f, 1.9160156f, 1.7783203f, 1.9326172f, 2.03808594f, 1.75f, 1.9902344f, 1.90527344f,
2.1689453f, 2.0f, 2.14746094f, 2.0810547f, 2.1035156f, 2.1767578f, 2.0966797f, 2.3515625f, 2.0791016f,
2.46191406f, 2.2636719f, 2.5927734f, 2.5478516f, 2.5878906f, 2.6035156f, 2.4111328f, 2.3701172f, 2.6972656f,
2.5107422f, 2.45996094f, 2.5283203f, 2.3876953f, 2.5214844f, 2.2929688f, 2.5234375f, 2.6464844f, 2.6835938f,
2.6074219f, 2.265625f, 2.2832031f, 2.5234375f, 2.6669922f, 2.5546875f,
};
static const npusim_output set1_output[] = {
-12, -21, 10, 18,
};
static const int8_t set1_layer0[] = {
11, 43, 6, 20, 3, 13, 21, 41, 24, 55, 23, 100, 43, 92, 64, 53,
};
static const int8_t set1_layer0_nhwc[] = {
11, 55, -97, 4, 43, 46, -85, 29, 6, 92, -81, 17, 20, 61, -98, 21,
};
static const uint8_t set1_layer1[] = {
27, 28, 69, 49, 81, 25, 50, 31, 5, 0, 21, 0, 0, 0, 0, 0,
};
static const uint8_t set1_layer1_nhwc[] = {
27, 0, 0, 78, 38, 125, 0, 13, 28, 0, 0, 33, 104, 112, 0, 49,
};
static const uint8_t set1_layer2[] = {
33, 59, 52, 42, 59, 43, 38, 27, 32, 30, 17, 11, 9, 12, 5, 7,
};
static const uint8_t set1_layer2_nhwc[] = {
33, 0, 14, 149, 0, 0, 0, 112, 59, 0, 0, 80, 0, 0, 0, 71,
};
static const uint8_t set1_layer3[] = {
85, 66, 142, 108, 147, 96, 106, 90, 65, 53, 73, 50, 55, 43, 51, 49,
};
static const uint8_t set1_layer3_nhwc[] = {
85, 0, 29, 82, 0, 77, 47, 64, 66, 0, 2, 50, 52, 103, 22, 57,
};
static const uint8_t set1_layer4[] = {
85, 142, 147, 106, 65, 73, 55, 51, 42, 38, 39, 44, 35, 42, 43, 37,
};
static const uint8_t set1_layer4_nhwc[] = {
85, 0, 29, 82, 52, 103, 47, 64, 142, 0, 36, 38, 8, 82, 58, 47,
};
static const uint8_t set1_layer5[] = {
85, 142, 147, 106, 65, 73, 55, 51, 42, 38, 39, 44, 35, 42, 43, 37,
};
static const int8_t set1_layer6[] = {
-12, -21, 10, 18,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0_nhwc}, {(uint32_t)0x973c5b81UL, (uint32_t)0xd5ab8428UL}},
    {{set1_layer1, set1_layer1_nhwc}, {(uint32_t)0x2cea2da3UL, (uint32_t)0x66ccaa01UL}},
    {{set1_layer2, set1_layer2_nhwc}, {(uint32_t)0x39b517b7UL, (uint32_t)0xcf3b5345UL}},
    {{set1_layer3, set1_layer3_nhwc}, {(uint32_t)0xa0ff9c05UL, (uint32_t)0x8dbae11aUL}},
    {{set1_layer4, set1_layer4_nhwc}, {(uint32_t)0x870013b6UL, (uint32_t)0xdbc06e80UL}},
    {{set1_layer5, set1_layer5}, {(uint32_t)0x870013b6UL, (uint32_t)0x870013b6UL}},
    {{set1_layer6, set1_layer6}, {(uint32_t)0x84a1f86fUL, (uint32_t)0x84a1f86fUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
1.3798828f, 1.4316406f, 1.67089844f, 1.42578125f, 1.68359375f, 1.8544922f, 1.87109375f, 1.9199219f,
2.4091797f, 2.1923828f, 2.5302734f, 2.5683594f, 2.5126953f, 2.7070312f, 2.4541016f, 2.4794922f, 2.32128906f,
2.1464844f, 1.8808594f, 2.1582031f, 1.8544922f, 1.9082031f, 1.6855469f, 1.4501953f, 1.4472656f, 1.27246094f,
1.4345703f, 1.703125f, 1.6699219f, 1.7832031f, 1.78222656f, 2.2080078f, 2.1113281f, 2.0976562f, 2.2265625f,
2.6220703f, 2.42871094f, 2.68066406f, 2.6796875f, 2.4570312f, 2.6064453f, 2.2529297f, 2.2851562f, 2.1152344f,
1.71875f, 1.7314453f, 1.8330078f, 1.4199219f, 1.51660156f, 1.40234375f, 1.68359375f, 1.4580078f, 1.77441406f,
1.82714844f, 1.5136719f, 1.98828125f, 1.78027344f, 2.05566406f, 2.125f, 2.1054688f, 2.4228516f, 2.6611328f,
2.72753906f, 2.2558594f, 2.30371094f, 2.5498047f, 2.1367188f, 2.2128906f, 1.84472656f, 1.82714844f,
1.62890625f, 1.62402344f, 1.38378906f, 1.48828125f, 1.5341797f, 1.66308594f, 1.5107422f, 1.41015625f,
1.4267578f, 1.5126953f, 2.0058594f, 1.7919922f, 2.1914062f, 2.4296875f, 2.1601562f, 2.1816406f, 2.6611328f,
2.6035156f, 2.6679688f, 2.4394531f, 2.1621094f, 2.3935547f, 1.98046875f, 2.2353516f, 1.94628906f, 1.8408203f,
1.5830078f, 1.42089844f, 1.5732422f, 1.33203125f, 1.546875f, 1.6386719f, 1.6953125f, 1.86328125f, 1.91308594f,
1.99609375f, 2.0107422f, 2.1689453f, 2.0410156f, 2.4052734f, 2.5839844f, 2.4189453f, 2.5234375f, 2.5429688f,
2.2890625f, 2.4238281f, 2.375f, 1.98535156f, 1.9609375f, 1.9892578f, 1.6933594f, 1.7529297f, 1.4941406f,
1.64160156f, 1.3466797f, 1.4296875f, 1.58203125f, 1.62597656f,
};
static const npusim_output set2_output[] = {
26, -39, 32, 9,
};
static const int8_t set2_layer0[] = {
-98, -90, -50, -91, -48, -20, -17, -9, 71, 36, 91, 97, 88, 120, 79, 83,
};
static const int8_t set2_layer0_nhwc[] = {
-98, 24, 52, -65, -90, 22, 94, -92, -50, 43, 24, -67, -91, 108, 37, -107,
};
static const uint8_t set2_layer1[] = {
45, 54, 46, 102, 71, 81, 86, 72, 36, 26, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set2_layer1_nhwc[] = {
45, 0, 62, 0, 0, 15, 182, 0, 54, 0, 110, 25, 0, 33, 133, 55,
};
static const uint8_t set2_layer2[] = {
17, 0, 0, 0, 0, 0, 0, 0, 26, 54, 52, 80, 25, 19, 3, 0,
};
static const uint8_t set2_layer2_nhwc[] = {
17, 0, 48, 65, 0, 78, 0, 31, 0, 0, 0, 29, 0, 0, 0, 144,
};
static const uint8_t set2_layer3[] = {
82, 122, 96, 171, 141, 145, 166, 139, 114, 86, 77, 39, 52, 32, 39, 37,
};
static const uint8_t set2_layer3_nhwc[] = {
82, 0, 89, 21, 3, 0, 187, 35, 122, 0, 145, 7, 0, 0, 181, 86,
};
static const uint8_t set2_layer4[] = {
122, 171, 145, 166, 114, 77, 52, 39, 32, 38, 20, 46, 113, 92, 115, 171,
};
static const uint8_t set2_layer4_nhwc[] = {
122, 0, 145, 21, 3, 0, 187, 86, 171, 0, 142, 90, 0, 64, 164, 172,
};
static const uint8_t set2_layer5[] = {
122, 171, 145, 166, 114, 77, 52, 39, 32, 38, 20, 46, 113, 92, 115, 171,
};
static const int8_t set2_layer6[] = {
26, -39, 32, 9,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0_nhwc}, {(uint32_t)0x3873d562UL, (uint32_t)0x3cee7d24UL}},
    {{set2_layer1, set2_layer1_nhwc}, {(uint32_t)0x574b2200UL, (uint32_t)0x73cef241UL}},
    {{set2_layer2, set2_layer2_nhwc}, {(uint32_t)0x4077d6abUL, (uint32_t)0x1e0295b5UL}},
    {{set2_layer3, set2_layer3_nhwc}, {(uint32_t)0x352d4140UL, (uint32_t)0xf582ce04UL}},
    {{set2_layer4, set2_layer4_nhwc}, {(uint32_t)0x4f56858fUL, (uint32_t)0x4485c5fbUL}},
    {{set2_layer5, set2_layer5}, {(uint32_t)0x4f56858fUL, (uint32_t)0x4f56858fUL}},
    {{set2_layer6, set2_layer6}, {(uint32_t)0x70e0fa5eUL, (uint32_t)0x70e0fa5eUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
2.2949219f, 2.265625f, 2.2958984f, 2.2695312f, 2.2460938f, 2.5166016f, 2.4316406f, 1.95703125f, 1.96972656f,
1.6308594f, 1.7939453f, 1.6777344f, 1.58203125f, 1.5878906f, 1.33984375f, 1.7519531f, 1.7470703f, 2.29003906f,
2.0576172f, 2.36621094f, 2.68066406f, 2.72753906f, 2.6728516f, 2.2988281f, 2.49316406f, 2.0859375f,
2.0478516f, 1.59375f, 1.6015625f, 1.5810547f, 1.7285156f, 1.55859375f, 1.3925781f, 1.9638672f, 1.8232422f,
2.0898438f, 2.0976562f, 2.2792969f, 2.5517578f, 2.7197266f, 2.2216797f, 2.1152344f, 2.10058594f, 1.8613281f,
1.99121094f, 1.8046875f, 1.7998047f, 1.37402344f, 1.4873047f, 1.6386719f, 1.73535156f, 1.7675781f, 2.1015625f,
2.0742188f, 2.35253906f, 2.52246094f, 2.3154297f, 2.6279297f, 2.3339844f, 2.4589844f, 2.3564453f, 2.1640625f,
1.5527344f, 1.56152344f, 1.6152344f, 1.6513672f, 1.63964844f, 1.5605469f, 1.7910156f, 1.9941406f, 2.08496094f,
2.0888672f, 2.2529297f, 2.5878906f, 2.5888672f, 2.3232422f, 2.13378906f, 2.0732422f, 1.98046875f, 1.70703125f,
1.8828125f, 1.734375f, 1.3564453f, 1.4033203f, 1.7011719f, 1.6308594f, 1.64941406f, 2.0166016f, 1.91015625f,
2.3574219f, 2.6679688f, 2.2890625f, 2.2578125f, 2.5605469f, 2.3115234f, 1.9658203f, 1.9628906f, 1.9609375f,
1.8808594f, 1.51953125f, 1.28027344f, 1.45214844f, 1.40234375f, 1.55566406f, 1.6591797f, 2.0566406f,
2.1953125f, 2.5107422f, 2.5234375f, 2.3535156f, 2.5859375f, 2.41503906f, 2.0361328f, 1.9980469f, 1.8964844f,
1.5341797f, 1.5126953f, 1.6503906f, 1.58203125f, 1.7080078f, 1.6425781f, 1.77246094f, 1.79003906f,
2.07128906f, 2.0625f, 2.6425781f, 2.2607422f, 2.7138672f,
};
static const npusim_output set3_output[] = {
10, -59, -17, 50,
};
static const int8_t set3_layer0[] = {
52, 48, 53, 48, 44, 89, 75, -3, -1, -57, -30, -49, -65, -64, -105, -37,
};
static const int8_t set3_layer0_nhwc[] = {
52, -94, -64, -2, 48, 0, -58, -3, 53, -23, -60, -16, 48, 21, -74, -76,
};
static const uint8_t set3_layer1[] = {
0, 0, 0, 0, 0, 0, 0, 33, 0, 0, 9, 29, 54, 48, 77, 23,
};
static const uint8_t set3_layer1_nhwc[] = {
0, 0, 0, 0, 31, 69, 0, 31, 0, 0, 0, 15, 21, 70, 0, 0,
};
static const uint8_t set3_layer2[] = {
4, 0, 0, 0, 0, 17, 94, 152, 137, 74, 34, 0, 0, 0, 0, 0,
};
static const uint8_t set3_layer2_nhwc[] = {
4, 0, 0, 57, 9, 0, 0, 38, 0, 0, 0, 82, 0, 0, 0, 76,
};
static const uint8_t set3_layer3[] = {
36, 48, 40, 58, 64, 43, 39, 81, 50, 58, 76, 81, 101, 87, 121, 67,
};
static const uint8_t set3_layer3_nhwc[] = {
36, 0, 4, 4, 12, 67, 13, 59, 48, 0, 17, 10, 0, 41, 30, 42,
};
static const uint8_t set3_layer4[] = {
48, 58, 64, 81, 58, 81, 101, 121, 54, 65, 73, 58, 40, 120, 144, 67,
};
static const uint8_t set3_layer4_nhwc[] = {
48, 0, 17, 10, 12, 67, 30, 59, 58, 0, 22, 56, 10, 124, 31, 70,
};
static const uint8_t set3_layer5[] = {
48, 58, 64, 81, 58, 81, 101, 121, 54, 65, 73, 58, 40, 120, 144, 67,
};
static const int8_t set3_layer6[] = {
10, -59, -17, 50,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0_nhwc}, {(uint32_t)0x7e68b08dUL, (uint32_t)0xf07b8203UL}},
    {{set3_layer1, set3_layer1_nhwc}, {(uint32_t)0x6e37c575UL, (uint32_t)0xd1f3d71fUL}},
    {{set3_layer2, set3_layer2_nhwc}, {(uint32_t)0x692a473cUL, (uint32_t)0x9da7a12aUL}},
    {{set3_layer3, set3_layer3_nhwc}, {(uint32_t)0x5249fda8UL, (uint32_t)0x39eae18aUL}},
    {{set3_layer4, set3_layer4_nhwc}, {(uint32_t)0xe613963aUL, (uint32_t)0xbbc42601UL}},
    {{set3_layer5, set3_layer5}, {(uint32_t)0xe613963aUL, (uint32_t)0xe613963aUL}},
    {{set3_layer6, set3_layer6}, {(uint32_t)0xc8acd570UL, (uint32_t)0xc8acd570UL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0x866901adUL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0x84a1f86fUL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0x70e0fa5eUL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0xc8acd570UL, set3_layers},
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
