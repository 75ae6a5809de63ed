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
    {NPUSIM_INT8, 200},
    {NPUSIM_UINT8, 400},
    {NPUSIM_UINT8, 400},
    {NPUSIM_UINT8, 800},
    {NPUSIM_UINT8, 16},
    {NPUSIM_INT8, 6},
};

#if NPUSIM_CHECK_SETS > 0
static const npusim_input set0_input[] = {
-0.426757812f, -0.927734375f, -0.7919922f, -0.560546875f, -1.12597656f, -0.39453125f, -0.76660156f,
0.377929688f, 0.19921875f, 0.9404297f, 0.7294922f, 0.595703125f, 0.6796875f, 0.43359375f, 0.998046875f,
0.056640625f, -0.59765625f, -0.93359375f, -0.73828125f, -1.37890625f, -1.41796875f, -0.828125f, -0.40234375f,
0.052734375f, 0.169921875f, -0.13183594f, 0.34472656f, 0.533203125f, 1.3027344f, 1.1201172f, 1.2480469f,
0.12890625f, 0.6044922f, 0.31933594f, -0.26953125f, -1.19628906f, -1.08691406f, -0.6513672f, -1.23339844f,
-1.06347656f, -0.572265625f, -0.38671875f, 0.041015625f, 0.99902344f, 0.370117188f, 1.4238281f, 0.7998047f,
1.2753906f, 0.78222656f, 0.248046875f, 0.33398438f, 0.0634765625f, -0.78808594f, -0.9609375f, -1.08496094f,
-1.36816406f, -0.49609375f, -0.869140625f, 0.091796875f, 0.091796875f, 0.9140625f, 1.13378906f, 1.07910156f,
0.52441406f, 0.859375f, 1.0371094f, 0.5498047f, 0.20019531f, -0.5888672f, -0.61035156f, -0.87597656f,
-0.64453125f, -1.45703125f, -1.32421875f, -1.0214844f, -0.34960938f, -0.033203125f, 0.76464844f, 1.05078125f,
1.21484375f, 1.32910156f, 1.1738281f, 1.046875f, 0.6748047f, -0.040039062f, -0.39160156f, -1.0292969f,
-0.73339844f, -0.83203125f, -0.8720703f, -1.0078125f, -0.828125f, -0.60546875f, 0.35351562f, 0.75683594f,
0.33496094f, 1.265625f, 1.05566406f, 0.775390625f, 0.33691406f, 0.411132812f, -0.0927734375f, -0.28222656f,
-0.66308594f, -1.26464844f, -0.775390625f, -0.828125f, -1.0439453f, -0.56347656f, -0.0263671875f, -0.2578125f,
0.0732421875f, 0.13964844f, 0.403320312f, 1.34277344f, 1.0517578f, 1.1611328f, 0.7216797f, 0.12792969f,
0.162109375f, -0.193359375f, -0.99902344f, -0.9951172f, -1.2392578f, -0.63378906f, -0.517578125f, -0.9140625f,
0.30273438f, -0.0693359375f, 0.15332031f, 0.955078125f, 1.1201172f, 0.9609375f, 1.1464844f, 0.1953125f,
0.830078125f, -0.31054688f, -0.64160156f, -0.759765625f, -0.771484375f, -0.53027344f, -0.990234375f,
-1.2675781f, -0.403320312f, 0.087890625f, 0.15625f, 0.41015625f, 1.2763672f, 1.0419922f, 1.08984375f,
1.05566406f, 0.5576172f, 0.26171875f, -0.34277344f, -0.529296875f, -0.25976562f, -1.18066406f, -1.07714844f,
-0.71191406f, -0.998046875f, -0.26464844f, -0.29492188f, -0.013671875f, 0.26757812f, 0.66308594f, 1.06640625f,
0.9326172f, 0.5751953f, 1.0205078f, 0.587890625f, 0.35742188f, 0.06640625f, -0.16308594f, -0.52441406f,
-1.3203125f, -1.3720703f, -1.2607422f, -0.7001953f, -0.055664062f, 0.0654296875f, 0.44628906f, 1.1142578f,
0.81640625f, 1.4091797f, 1.25f, 0.68847656f, 0.35253906f, -0.00390625f, -0.27441406f, -0.83984375f,
-1.27246094f, -1.3046875f, -0.8154297f, -1.29003906f, -0.681640625f, -0.0068359375f, -0.51464844f,
0.009765625f, 0.62109375f, 0.93066406f,
};
static const npusim_output set0_output[] = {
84, 46, 19, -25, -6, -53,
};
static const int8_t set0_layer0[] = {
-36, -79, -67, -47, -95, -33, -65, 32, 17, 80, 62, 50, 58, 37, 84, 5,
};
static const uint8_t set0_layer1[] = {
0, 6, 13, 0, 0, 0, 0, 0, 0, 37, 0, 0, 48, 65, 111, 9,
};
static const uint8_t set0_layer1_nhwc[] = {
0, 0, 0, 103, 0, 0, 38, 2, 6, 0, 0, 0, 47, 0, 0, 0,
};
static const uint8_t set0_layer2[] = {
0, 0, 0, 15, 12, 0, 17, 51, 64, 4, 0, 31, 70, 114, 22, 68,
};
static const uint8_t set0_layer2_nhwc[] = {
0, 0, 0, 41, 0, 0, 37, 0, 0, 0, 46, 0, 0, 0, 37, 15,
};
static const uint8_t set0_layer3[] = {
32, 68, 85, 110, 23, 89, 90, 89, 89, 61, 106, 35, 129, 117, 60, 30,
};
static const uint8_t set0_layer3_nhwc[] = {
32, 70, 0, 26, 0, 11, 64, 8, 0, 46, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set0_layer4[] = {
193, 122, 66, 61, 0, 118, 114, 109, 31, 80, 82, 39, 53, 55, 71, 86,
};
static const int8_t set0_layer5[] = {
84, 46, 19, -25, -6, -53,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0}, {(uint32_t)0x8c0c283bUL, (uint32_t)0x8c0c283bUL}},
    {{set0_layer1, set0_layer1_nhwc}, {(uint32_t)0x6e75f68cUL, (uint32_t)0x7d44c86eUL}},
    {{set0_layer2, set0_layer2_nhwc}, {(uint32_t)0x17059089UL, (uint32_t)0x6b53fe07UL}},
    {{set0_layer3, set0_layer3_nhwc}, {(uint32_t)0xeae3fe19UL, (uint32_t)0xd4a8b29eUL}},
    {{set0_layer4, set0_layer4}, {(uint32_t)0x978e35c6UL, (uint32_t)0x978e35c6UL}},
    {{set0_layer5, set0_layer5}, {(uint32_t)0x54c8567cUL, (uint32_t)0x54c8567cUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
0.317382812f, 0.7060547f, 0.88378906f, 0.0947265625f, -0.0205078125f, -0.197265625f, 0.3125f, 0.0205078125f,
-0.489257812f, -0.40429688f, -0.697265625f, -0.978515625f, -0.67089844f, -1.27246094f, -1.10546875f,
-0.76953125f, -1.2294922f, -1.0029297f, -1.3251953f, -0.681640625f, -0.619140625f, -0.78515625f, -0.71972656f,
-0.36035156f, -0.385742188f, 0.315429688f, -0.16894531f, 0.045898438f, 0.41992188f, 0.45214844f, 0.92089844f,
1.22558594f, 0.91503906f, 0.904296875f, 1.1064453f, 0.6376953f, 1.06347656f, 0.85839844f, 0.62890625f,
0.1875f, 0.25390625f, 0.69628906f, 0.12988281f, -0.42089844f, -0.013671875f, 0.162109375f, -0.888671875f,
-0.99121094f, -0.501953125f, -0.916015625f, -1.07910156f, -0.923828125f, -0.607421875f, -1.1230469f,
-0.7841797f, -0.693359375f, -0.49121094f, -0.634765625f, -0.473632812f, -0.6484375f, -0.14355469f,
-0.116210938f, -0.3984375f, 0.185546875f, 0.13964844f, 0.28515625f, 0.923828125f, 0.27148438f, 0.6826172f,
0.751953125f, 0.8232422f, 1.36621094f, 0.580078125f, 0.560546875f, 1.21875f, 0.9140625f, 0.37402344f,
0.5751953f, 0.265625f, 0.7685547f, 0.62890625f, -0.18359375f, 0.23144531f, -0.5361328f, -0.354492188f,
-0.88671875f, -0.354492188f, -0.6435547f, -1.21484375f, -0.9345703f, -1.39160156f, -1.0019531f, -0.546875f,
-1.26660156f, -1.00097656f, -0.418945312f, -0.356445312f, -0.626953125f, -0.64746094f, 0.162109375f,
0.40527344f, -0.14550781f, 0.6591797f, 0.34375f, 0.252929688f, 0.278320312f, 1.2236328f, 0.990234375f,
0.86035156f, 1.14453125f, 0.58203125f, 1.1357422f, 0.87109375f, 0.630859375f, 0.69433594f, 0.6201172f,
0.82714844f, 0.23730469f, 0.65527344f, -0.30664062f, 0.19628906f, -0.5546875f, -0.49804688f, -0.974609375f,
-0.45703125f, -1.1875f, -0.8486328f, -1.0214844f, -1.1982422f, -0.78222656f, -1.22265625f, -0.51953125f,
-0.75390625f, -0.32421875f, -0.29785156f, -0.67578125f, -0.043945312f, 0.169921875f, 0.2734375f, 0.5751953f,
0.385742188f, 0.37402344f, 0.248046875f, 1.0361328f, 1.00878906f, 0.46679688f, 1.17871094f, 0.951171875f,
1.40722656f, 1.16015625f, 0.78515625f, 0.4765625f, 1.21875f, 1.04785156f, 0.984375f, 0.5703125f, 0.33789062f,
-0.20019531f, -0.228515625f, -0.10546875f, -0.23535156f, -0.8876953f, -0.34472656f, -1.0966797f, -0.9169922f,
-0.76953125f, -1.4814453f, -0.59375f, -1.45703125f, -0.603515625f, -1.0332031f, -0.3125f, -0.31152344f,
-0.1015625f, -0.759765625f, -0.572265625f, -0.40429688f, -0.053710938f, 0.56640625f, 0.828125f, 0.86816406f,
0.9013672f, 0.6123047f, 1.0546875f, 1.4121094f, 0.74902344f, 0.900390625f, 1.21191406f, 1.1298828f,
0.51660156f, 0.299804688f, 0.69628906f, 0.32617188f, 0.22265625f, -0.28710938f, 0.4921875f, -0.3671875f,
-0.0068359375f, -0.8310547f, -0.6015625f,
};
static const npusim_output set1_output[] = {
81, 69, 6, -26, 16, -64,
};
static const int8_t set1_layer0[] = {
27, 60, 75, 8, -2, -17, 26, 2, -41, -34, -59, -83, -57, -108, -94, -65,
};
static const uint8_t set1_layer1[] = {
0, 7, 0, 0, 0, 58, 102, 131, 116, 146, 0, 0, 0, 0, 0, 91,
};
static const uint8_t set1_layer1_nhwc[] = {
0, 58, 0, 37, 34, 34, 53, 77, 7, 4, 0, 143, 56, 0, 63, 56,
};
static const uint8_t set1_layer2[] = {
64, 60, 51, 36, 4, 33, 74, 80, 115, 22, 136, 145, 145, 145, 83, 42,
};
static const uint8_t set1_layer2_nhwc[] = {
64, 0, 70, 42, 0, 23, 21, 9, 60, 0, 0, 37, 0, 0, 20, 26,
};
static const uint8_t set1_layer3[] = {
38, 36, 51, 54, 42, 45, 80, 114, 13, 64, 74, 17, 18, 28, 58, 3,
};
static const uint8_t set1_layer3_nhwc[] = {
38, 0, 60, 0, 0, 67, 29, 53, 33, 0, 36, 0, 50, 0, 0, 31,
};
static const uint8_t set1_layer4[] = {
137, 109, 137, 84, 0, 142, 188, 153, 122, 48, 187, 3, 109, 125, 0, 147,
};
static const int8_t set1_layer5[] = {
81, 69, 6, -26, 16, -64,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0}, {(uint32_t)0xe7b94072UL, (uint32_t)0xe7b94072UL}},
    {{set1_layer1, set1_layer1_nhwc}, {(uint32_t)0xc1a424f2UL, (uint32_t)0x93d6bcc5UL}},
    {{set1_layer2, set1_layer2_nhwc}, {(uint32_t)0x729268f3UL, (uint32_t)0x97a9ebc0UL}},
    {{set1_layer3, set1_layer3_nhwc}, {(uint32_t)0x4bb915ecUL, (uint32_t)0xce7dcae6UL}},
    {{set1_layer4, set1_layer4}, {(uint32_t)0xbe4df4d1UL, (uint32_t)0xbe4df4d1UL}},
    {{set1_layer5, set1_layer5}, {(uint32_t)0xbfa18ee7UL, (uint32_t)0xbfa18ee7UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
0.75097656f, 1.2158203f, 1.41503906f, 1.1972656f, 1.0996094f, 0.60253906f, 0.53808594f, 0.892578125f,
-0.053710938f, -0.118164062f, 0.13378906f, -0.293945312f, -0.67871094f, -0.71484375f, -0.62890625f,
-1.0605469f, -0.810546875f, -1.2636719f, -1.0253906f, -0.41503906f, -0.40625f, 0.354492188f, 0.83203125f,
0.716796875f, 0.7783203f, 1.3330078f, 1.3642578f, 0.7060547f, 1.18359375f, 0.98828125f, 0.83203125f,
0.32421875f, 0.505859375f, 0.17871094f, -0.068359375f, -0.370117188f, -1.1972656f, -0.99902344f, -1.05859375f,
-1.3779297f, -1.19140625f, -0.75390625f, -0.291992188f, 0.13671875f, -0.21191406f, 0.791015625f, 0.6376953f,
0.33203125f, 1.05859375f, 0.853515625f, 0.7470703f, 1.0439453f, 1.1542969f, 0.203125f, 0.814453125f,
0.6455078f, -0.0859375f, -0.599609375f, -0.134765625f, -0.35253906f, -0.62597656f, -0.927734375f,
-1.02734375f, -0.473632812f, -0.6279297f, -0.6953125f, -0.6640625f, 0.362304688f, -0.203125f, 0.529296875f,
1.10839844f, 1.0722656f, 0.9267578f, 0.73046875f, 0.982421875f, 1.1855469f, 0.27929688f, 0.033203125f,
0.31933594f, -0.1328125f, -0.583984375f, -0.6689453f, -1.06347656f, -1.32714844f, -0.76953125f, -1.2529297f,
-0.481445312f, -0.63378906f, -0.67578125f, -0.888671875f, -0.65625f, -0.0927734375f, 0.43554688f, 0.19140625f,
0.57421875f, 0.888671875f, 1.28515625f, 1.04589844f, 1.32128906f, 0.8046875f, 0.41992188f, 0.479492188f,
0.19042969f, 0.33789062f, -0.299804688f, -0.77734375f, -1.1064453f, -0.66503906f, -0.56933594f, -1.14746094f,
-1.36816406f, -0.333007812f, -0.23535156f, -0.403320312f, -0.35839844f, -0.122070312f, 0.54296875f,
0.94921875f, 0.52441406f, 1.4296875f, 0.53808594f, 0.9189453f, 0.947265625f, 0.338867188f, 0.262695312f,
0.24609375f, 0.29882812f, -0.244140625f, -0.28125f, -0.5810547f, -0.40625f, -1.06640625f, -0.58203125f,
-0.591796875f, -0.76464844f, -1.0263672f, -0.0302734375f, -0.515625f, -0.440429688f, 0.19140625f, 0.8251953f,
1.2128906f, 0.974609375f, 1.1542969f, 1.40722656f, 1.03515625f, 0.385742188f, 0.31152344f, 0.8408203f,
0.6171875f, -0.224609375f, 0.0634765625f, -0.31445312f, -0.650390625f, -0.6748047f, -1.2792969f, -0.88964844f,
-0.7939453f, -0.859375f, -0.3984375f, -0.426757812f, 0.078125f, -0.015625f, 0.083984375f, 0.42871094f,
0.47265625f, 0.83496094f, 0.6279297f, 0.7607422f, 1.3574219f, 0.97265625f, 0.669921875f, -0.0927734375f,
0.20019531f, -0.49121094f, -0.72265625f, -0.6201172f, -1.35839844f, -0.54785156f, -0.56152344f, -1.4013672f,
-0.892578125f, -0.61621094f, -0.83496094f, 0.146484375f, 0.17480469f, -0.130859375f, 1.0175781f, 0.767578125f,
0.755859375f, 1.28808594f, 0.6298828f, 1.23339844f, 0.41796875f, 0.37890625f, 0.0009765625f, 0.060546875f,
-0.37402344f, -0.716796875f, -0.8330078f,
};
static const npusim_output set2_output[] = {
68, 66, -1, -24, 12, -58,
};
static const int8_t set2_layer0[] = {
64, 103, 120, 101, 93, 51, 46, 76, -5, -10, 11, -25, -57, -61, -53, -90,
};
static const uint8_t set2_layer1[] = {
32, 48, 23, 0, 0, 0, 140, 132, 78, 94, 0, 23, 51, 161, 109, 0,
};
static const uint8_t set2_layer1_nhwc[] = {
32, 44, 28, 0, 86, 0, 76, 0, 48, 92, 90, 18, 70, 0, 36, 14,
};
static const uint8_t set2_layer2[] = {
63, 129, 35, 11, 0, 101, 99, 179, 195, 0, 18, 120, 228, 177, 125, 0,
};
static const uint8_t set2_layer2_nhwc[] = {
63, 103, 0, 0, 0, 0, 27, 0, 129, 59, 0, 0, 0, 0, 11, 7,
};
static const uint8_t set2_layer3[] = {
48, 26, 97, 25, 79, 0, 30, 69, 43, 75, 37, 36, 0, 33, 11, 70,
};
static const uint8_t set2_layer3_nhwc[] = {
48, 35, 100, 0, 0, 43, 84, 113, 4, 0, 60, 0, 0, 0, 0, 0,
};
static const uint8_t set2_layer4[] = {
117, 145, 95, 83, 0, 119, 156, 128, 66, 135, 194, 31, 92, 52, 3, 167,
};
static const int8_t set2_layer5[] = {
68, 66, -1, -24, 12, -58,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0}, {(uint32_t)0x010643f4UL, (uint32_t)0x010643f4UL}},
    {{set2_layer1, set2_layer1_nhwc}, {(uint32_t)0x4b7fd37bUL, (uint32_t)0xa7faf0c9UL}},
    {{set2_layer2, set2_layer2_nhwc}, {(uint32_t)0xb255a844UL, (uint32_t)0xd87c08b2UL}},
    {{set2_layer3, set2_layer3_nhwc}, {(uint32_t)0xc6c8c5a3UL, (uint32_t)0xd94867a9UL}},
    {{set2_layer4, set2_layer4}, {(uint32_t)0x0c21ac14UL, (uint32_t)0x0c21ac14UL}},
    {{set2_layer5, set2_layer5}, {(uint32_t)0xa07e4d90UL, (uint32_t)0xa07e4d90UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
0.0673828125f, 0.8203125f, 1.0966797f, 1.35058594f, 1.3203125f, 0.869140625f, 1.04589844f, 0.57714844f,
0.703125f, -0.21972656f, 0.44335938f, -0.560546875f, -0.5439453f, -0.791015625f, -0.448242188f, -0.72265625f,
-1.1953125f, -1.0605469f, -0.71777344f, -0.94140625f, -0.916015625f, -0.611328125f, 0.33203125f, 0.025390625f,
0.379882812f, 0.5986328f, 0.599609375f, 0.5126953f, 1.16796875f, 0.6513672f, 0.9873047f, 0.19140625f,
0.056640625f, -0.005859375f, 0.106445312f, 0.025390625f, -0.19238281f, -1.22753906f, -1.09375f, -1.0361328f,
-1.2060547f, -0.60839844f, -0.48828125f, -1.0966797f, -0.49609375f, -0.39648438f, 0.0654296875f, 0.20214844f,
0.630859375f, 0.3828125f, 0.623046875f, 0.5966797f, 1.2080078f, 1.1669922f, 0.5029297f, 0.6923828f,
0.5908203f, -0.0703125f, 0.013671875f, -0.6767578f, -0.3515625f, -0.8623047f, -1.28125f, -1.3671875f,
-0.82128906f, -0.5888672f, -0.9189453f, -0.7451172f, -0.78027344f, -0.650390625f, 0.109375f, 0.34765625f,
0.17578125f, 0.88964844f, 0.85253906f, 0.92871094f, 1.4814453f, 0.892578125f, 1.12402344f, 0.5576172f,
0.7216797f, 0.26464844f, -0.005859375f, -0.0654296875f, -0.90722656f, -0.71777344f, -0.88964844f,
-1.16308594f, -0.8623047f, -0.935546875f, -1.09472656f, -0.94921875f, -0.41601562f, -0.29589844f, 0.125f,
0.51660156f, 0.607421875f, 0.89746094f, 0.84765625f, 1.47753906f, 1.0703125f, 0.517578125f, 0.673828125f,
0.57128906f, 0.19628906f, 0.5966797f, -0.338867188f, -0.21972656f, -0.61816406f, -0.72753906f, -0.465820312f,
-1.47558594f, -1.1923828f, -0.74121094f, -0.82910156f, -0.7236328f, -0.038085938f, 0.28808594f,
-0.0986328125f, 0.331054688f, 0.54589844f, 0.951171875f, 0.5498047f, 0.60058594f, 1.3027344f, 0.82421875f,
0.30078125f, 0.23828125f, 0.62402344f, -0.05859375f, 0.00390625f, -0.3515625f, -0.2578125f, -1.17089844f,
-1.0732422f, -0.6982422f, -1.4082031f, -1.1455078f, -1.13183594f, -0.81933594f, -0.72558594f, -0.107421875f,
0.37695312f, 0.4296875f, 0.990234375f, 0.63183594f, 1.015625f, 1.0126953f, 1.1357422f, 0.411132812f,
1.0371094f, 0.998046875f, 0.5546875f, -0.34277344f, 0.01953125f, -0.509765625f, -0.7060547f, -0.595703125f,
-1.2548828f, -0.630859375f, -0.81347656f, -1.1064453f, -0.41308594f, -0.66308594f, -0.375f, -0.03125f,
-0.185546875f, 0.0810546875f, 0.286132812f, 1.3183594f, 1.38964844f, 1.0566406f, 1.12890625f, 1.375f,
0.83496094f, 0.40234375f, -0.032226562f, -0.03515625f, -0.185546875f, -0.2421875f, -1.01953125f, -0.71191406f,
-0.7060547f, -0.96972656f, -1.1503906f, -0.93359375f, -0.67285156f, -0.057617188f, 0.158203125f,
0.0986328125f, 0.19628906f, 0.9111328f, 0.35742188f, 0.9794922f, 0.615234375f, 1.3574219f, 0.529296875f,
1.05371094f, 1.18847656f, 0.4765625f,
};
static const npusim_output set3_output[] = {
65, 68, 0, -25, 11, -55,
};
static const int8_t set3_layer0[] = {
6, 69, 93, 114, 112, 74, 89, 49, 60, -19, 38, -47, -46, -67, -38, -61,
};
static const uint8_t set3_layer1[] = {
20, 51, 49, 0, 0, 0, 53, 112, 142, 86, 0, 6, 0, 83, 118, 0,
};
static const uint8_t set3_layer1_nhwc[] = {
20, 52, 0, 29, 55, 0, 68, 5, 51, 51, 65, 23, 112, 5, 33, 0,
};
static const uint8_t set3_layer2[] = {
35, 85, 90, 64, 0, 41, 85, 141, 161, 66, 1, 37, 139, 182, 125, 0,
};
static const uint8_t set3_layer2_nhwc[] = {
35, 49, 49, 0, 0, 0, 26, 0, 85, 63, 0, 0, 0, 0, 11, 0,
};
static const uint8_t set3_layer3[] = {
55, 27, 68, 28, 38, 3, 34, 4, 58, 31, 21, 21, 22, 0, 27, 5,
};
static const uint8_t set3_layer3_nhwc[] = {
55, 2, 65, 15, 0, 41, 46, 61, 40, 0, 13, 0, 0, 0, 0, 0,
};
static const uint8_t set3_layer4[] = {
100, 151, 93, 74, 0, 118, 170, 117, 82, 141, 176, 24, 106, 56, 0, 164,
};
static const int8_t set3_layer5[] = {
65, 68, 0, -25, 11, -55,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0}, {(uint32_t)0x4cdf900eUL, (uint32_t)0x4cdf900eUL}},
    {{set3_layer1, set3_layer1_nhwc}, {(uint32_t)0x8673e776UL, (uint32_t)0x8ab2e9eeUL}},
    {{set3_layer2, set3_layer2_nhwc}, {(uint32_t)0x8cdca107UL, (uint32_t)0x4b57b0bbUL}},
    {{set3_layer3, set3_layer3_nhwc}, {(uint32_t)0x74594b5dUL, (uint32_t)0xdf46a4e0UL}},
    {{set3_layer4, set3_layer4}, {(uint32_t)0x8e1556c3UL, (uint32_t)0x8e1556c3UL}},
    {{set3_layer5, set3_layer5}, {(uint32_t)0x7554e319UL, (uint32_t)0x7554e319UL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0x54c8567cUL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0xbfa18ee7UL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0xa07e4d90UL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0x7554e319UL, set3_layers},
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
