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
    {NPUSIM_UINT8, 128},
    {NPUSIM_UINT8, 64},
    {NPUSIM_UINT8, 128},
    {NPUSIM_INT8, 128},
    {NPUSIM_FLOAT, 128},
};

#if NPUSIM_CHECK_SETS > 0
static const npusim_input set0_input[] = {
1.1923828f, 0.94140625f, 0.38476562f, 1.0517578f, 0.4765625f, 0.86035156f, 0.0009765625f, 0.0146484375f,
-0.32226562f, -0.66308594f, -0.47265625f, -0.6455078f, -0.673828125f, -0.93359375f, -0.541015625f,
-1.2705078f, -1.12402344f, -1.4238281f, -1.46191406f, -1.13964844f, -1.31152344f, -1.3691406f, -0.64160156f,
-0.92578125f, -1.01953125f, -0.681640625f, -0.79589844f, -0.0146484375f, -0.29589844f, -0.362304688f,
-0.14941406f, 0.701171875f, 0.203125f, 1.11035156f, 1.0419922f, 0.62109375f, 1.4248047f, 1.23339844f,
1.0996094f, 0.869140625f, 1.00097656f, 0.65234375f, 0.77734375f, 1.00390625f, 0.17675781f, 0.14550781f,
0.315429688f, 0.47070312f, -0.047851562f, 0.28808594f, -0.411132812f, 0.125f, -0.509765625f, -0.197265625f,
-0.837890625f, -1.04785156f, -0.54589844f, -1.2363281f, -1.05371094f, -1.2519531f, -0.544921875f,
-1.00390625f, -0.52441406f, -0.42578125f, -0.7265625f, -0.5439453f, -0.66015625f, -0.27539062f, -0.109375f,
-0.28515625f, 0.0625f, 0.49121094f, 0.6064453f, 0.286132812f, 0.315429688f, 1.11816406f, 0.47265625f,
0.958984375f, 1.31152344f, 0.73046875f, 1.1875f, 0.73339844f, 1.1816406f, 0.763671875f, 1.1425781f,
0.465820312f, 0.465820312f, 0.44335938f, 0.693359375f, 0.346679688f, 0.37109375f, -0.0126953125f,
-0.19824219f, -0.39648438f, -0.8876953f, -0.67871094f, -1.01953125f, -1.3095703f, -1.25878906f, -0.6220703f,
-0.541015625f, -1.359375f, -1.0332031f, -1.35839844f, -1.109375f, -0.35839844f, -0.18847656f, -0.43359375f,
-0.3046875f, -0.46972656f, -0.162109375f, -0.169921875f, 0.315429688f, 0.8857422f, 0.12792969f, 0.9111328f,
0.393554688f, 1.3154297f, 0.701171875f, 0.84375f, 1.49609375f, 0.771484375f, 1.1845703f, 0.82128906f,
1.19140625f, 1.046875f, 0.43554688f, 0.05859375f,
};
static const npusim_output set0_output[] = {
-0.09281431f, -0.26813024f, -0.14437783f, -0.26813024f, -0.206254035f, -0.23719214f, -0.165003225f,
-0.0825016126f, 0.0515635088f, -0.567198575f, 0.19594133f, 0.030938104f, 0.103127018f, -0.84564155f,
0.39188266f, -0.13406512f,
#ifndef NPUSIM_CHECK_BOUNDED
0.31969374f, -0.783765316f, 0.42282078f, 0.38156995f, 0.515635073f, -1.0415828f, 0.94876856f, 0.165003225f,
0.22687943f, -0.670325577f, 0.515635073f, -0.15469052f, -0.165003225f, -0.36094457f, 0.13406512f,
-0.25781754f, 0.0f, -0.206254035f, -0.030938104f, -0.113439716f, 0.072188914f, -0.18562862f, -0.165003225f,
-0.09281431f, -0.24750483f, -0.35063186f, 0.21656673f, -0.0103127016f, -0.22687943f, -0.49500966f,
0.19594133f, -0.020625403f, -0.567198575f, -0.5053224f, 0.670325577f, -0.618762076f, -1.072521f,
0.0103127016f, 1.13439715f, -0.45375887f, -0.46407157f, 0.0f, 0.82501614f, -0.37125725f, -0.5053224f, 0.0f,
0.567198575f, -0.18562862f, 0.19594133f, 0.27844295f, 0.15469052f, 0.25781754f, 0.113439716f, 0.35063186f,
0.072188914f, 0.22687943f, -0.061876208f, 0.061876208f, 0.123752415f, 0.19594133f, -0.5259478f, 0.165003225f,
0.24750483f, 0.24750483f, -0.5775113f, -0.13406512f, 0.5053224f, 0.27844295f, -0.835328817f, -0.97970665f,
1.3097131f, 0.29906833f, -0.33000645f, -0.5775113f, 0.49500966f, 0.41250807f, -0.22687943f, -0.18562862f,
0.44344616f, 0.5362605f, -0.030938104f, -0.0103127016f, -0.0515635088f, -0.0825016126f, 0.0103127016f,
-0.14437783f, -0.020625403f, 0.113439716f, 0.113439716f, 0.38156995f, 0.113439716f, 0.30938104f, 0.6084494f,
0.206254035f, 0.31969374f, 0.45375887f, 0.54657316f, -0.0515635088f, 0.515635073f, 0.82501614f, 0.54657316f,
0.7631399f, 0.6393875f, 0.6290748f, 0.36094457f, 0.587824f, 0.34031916f, -0.020625403f, 0.27844295f,
0.165003225f, 0.37125725f, -0.28875566f,
#endif
};
static const int8_t set0_layer0[] = {
101, 80, 33, 89, 40, 73, 0, 1, -27, -56, -40, -55, -57, -79, -46, -108,
};
static const int8_t set0_layer0_nhwc[] = {
101, 17, -62, -87, 80, 94, -46, -111, 33, 88, -56, -107, 89, 53, -23, -53,
};
static const uint8_t set0_layer1[] = {
32, 0, 0, 0, 0, 0, 0, 0, 0, 13, 20, 51, 0, 53, 73, 113,
};
static const uint8_t set0_layer1_nhwc[] = {
32, 0, 0, 63, 0, 0, 0, 0, 0, 17, 15, 71, 0, 0, 0, 2,
};
static const uint8_t set0_layer2[] = {
10, 0, 0, 0, 0, 0, 0, 25, 19, 0, 15, 0, 34, 129, 22, 4,
};
static const uint8_t set0_layer2_nhwc[] = {
10, 19, 0, 0, 0, 0, 33, 0, 0, 0, 3, 38, 0, 0, 0, 0,
};
static const uint8_t set0_layer3[] = {
8, 1, 13, 0, 0, 0, 39, 0, 0, 39, 0, 0, 0, 19, 0, 39,
};
static const uint8_t set0_layer3_nhwc[] = {
8, 34, 0, 0, 0, 14, 30, 0, 1, 30, 0, 0, 0, 45, 15, 0,
};
static const int8_t set0_layer4[] = {
-9, -26, -14, -26, -20, -23, -16, -8, 5, -55, 19, 3, 10, -82, 38, -13,
};
static const int8_t set0_layer4_nhwc[] = {
-9, 0, 19, -3, -26, -20, 27, -1, -14, -3, 15, -5, -26, -11, 25, -8,
};
static const float set0_layer5[] = {
-0.09281431f, -0.26813024f, -0.14437783f, -0.26813024f, -0.206254035f, -0.23719214f, -0.165003225f,
-0.0825016126f, 0.0515635088f, -0.567198575f, 0.19594133f, 0.030938104f, 0.103127018f, -0.84564155f,
0.39188266f, -0.13406512f,
};
static const float set0_layer5_nhwc[] = {
-0.09281431f, 0.0f, 0.19594133f, -0.030938104f, -0.26813024f, -0.206254035f, 0.27844295f, -0.0103127016f,
-0.14437783f, -0.030938104f, 0.15469052f, -0.0515635088f, -0.26813024f, -0.113439716f, 0.25781754f,
-0.0825016126f,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0_nhwc}, {(uint32_t)0x39309a61UL, (uint32_t)0x657f836aUL}},
    {{set0_layer1, set0_layer1_nhwc}, {(uint32_t)0xad2bbdbfUL, (uint32_t)0xd0ac724eUL}},
    {{set0_layer2, set0_layer2_nhwc}, {(uint32_t)0xc6a77df5UL, (uint32_t)0xfeb825d6UL}},
    {{set0_layer3, set0_layer3_nhwc}, {(uint32_t)0x65571170UL, (uint32_t)0x3bb61fb7UL}},
    {{set0_layer4, set0_layer4_nhwc}, {(uint32_t)0x83083a4eUL, (uint32_t)0x5c7f17bdUL}},
    {{set0_layer5, set0_layer5_nhwc}, {(uint32_t)0x471ec5acUL, (uint32_t)0xd16ce16fUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
0.120117188f, -0.68847656f, -0.78222656f, -0.37890625f, -1.2294922f, -0.6748047f, -1.2167969f, -0.76171875f,
0.0146484375f, 0.46191406f, 0.2421875f, 0.1796875f, 1.16503906f, 0.9482422f, 0.525390625f, 0.515625f,
0.36914062f, -0.138671875f, 0.232421875f, -0.8359375f, -1.1923828f, -0.6015625f, -0.57910156f, -1.0419922f,
-0.47070312f, -0.052734375f, -0.140625f, -0.19140625f, 0.48632812f, 0.3125f, 1.3544922f, 1.03222656f,
1.0908203f, 0.70996094f, 0.888671875f, 0.49609375f, 0.13183594f, -0.9716797f, -0.7939453f, -1.1113281f,
-1.4794922f, -0.40625f, -0.7841797f, -0.41308594f, -0.20214844f, 0.6484375f, 0.126953125f, 0.7138672f,
1.3017578f, 0.77441406f, 0.96484375f, 0.65527344f, 0.103515625f, 0.13964844f, -0.8173828f, -0.185546875f,
-0.638671875f, -0.93066406f, -0.88964844f, -0.434570312f, -0.896484375f, -0.5673828f, 0.5390625f, 0.37402344f,
1.1455078f, 1.25683594f, 0.5078125f, 0.6328125f, 0.564453125f, 0.783203125f, 0.20410156f, -0.5126953f,
-0.31640625f, -0.99609375f, -1.36621094f, -0.9111328f, -0.50683594f, -1.0214844f, -0.033203125f, -0.47460938f,
-0.185546875f, 1.0107422f, 1.0136719f, 1.05078125f, 1.2841797f, 1.00097656f, 0.31152344f, 0.09375f,
-0.23046875f, -0.403320312f, -0.45507812f, -1.18066406f, -0.9375f, -1.2158203f, -1.04003906f, -0.49316406f,
-0.393554688f, 0.46289062f, 0.681640625f, 0.646484375f, 0.77246094f, 0.89941406f, 0.47460938f, 0.43164062f,
0.39941406f, 0.16113281f, -0.379882812f, -0.42089844f, -0.537109375f, -1.2675781f, -1.01171875f, -1.06640625f,
-0.671875f, -0.2890625f, -0.234375f, 0.38183594f, 0.40820312f, 1.1142578f, 0.8984375f, 0.953125f, 0.41992188f,
0.7607422f, -0.0302734375f, -0.203125f, -0.296875f, -0.5654297f, -1.05859375f, -1.2158203f,
};
static const npusim_output set1_output[] = {
-0.123752415f, -0.103127018f, 0.0515635088f, -0.165003225f, 0.31969374f, -0.40219536f, 0.41250807f,
0.113439716f, 0.42282078f, -0.804390728f, 0.36094457f, -0.28875566f, -0.18562862f, -0.165003225f,
-0.123752415f, -0.29906833f,
#ifndef NPUSIM_CHECK_BOUNDED
-0.14437783f, -0.13406512f, 0.0f, -0.21656673f, 0.23719214f, -0.29906833f, 0.33000645f, 0.113439716f,
0.27844295f, -0.46407157f, 0.47438428f, 0.030938104f, 0.165003225f, -0.54657316f, 0.072188914f, -0.27844295f,
-0.041250806f, -0.13406512f, -0.0825016126f, -0.5568859f, -0.165003225f, -0.27844295f, 0.6393875f,
-0.670325577f, -0.587824f, -0.26813024f, 0.794078f, -0.165003225f, 0.13406512f, -0.103127018f, -0.072188914f,
-0.103127018f, 0.0515635088f, -0.165003225f, -0.103127018f, -0.5362605f, -0.13406512f, -0.41250807f,
0.567198575f, -0.5568859f, -0.54657316f, 0.0515635088f, 0.794078f, -0.30938104f, -0.39188266f, -0.23719214f,
0.42282078f, -0.15469052f, 0.15469052f, 0.0825016126f, 0.33000645f, 0.48469698f, -0.113439716f, -0.30938104f,
0.48469698f, 0.39188266f, -0.123752415f, -0.37125725f, 0.701263726f, 0.21656673f, 0.22687943f, 0.19594133f,
0.22687943f, 0.22687943f, 0.17531593f, 0.14437783f, 0.29906833f, 0.42282078f, -0.14437783f, -0.13406512f,
0.39188266f, 0.46407157f, -0.31969374f, -0.515635073f, 0.7115764f, 0.34031916f, -0.14437783f, 0.0f,
0.33000645f, 0.33000645f, -0.061876208f, 0.072188914f, 0.020625403f, 0.5259478f, 0.072188914f, 0.30938104f,
0.31969374f, 0.6084494f, 0.19594133f, 0.783765316f, 0.23719214f, 0.0103127016f, -0.061876208f, -0.072188914f,
-0.061876208f, -0.0825016126f, -0.113439716f, -0.030938104f, -0.0103127016f, 0.5362605f, 0.072188914f,
0.36094457f, 0.47438428f, 0.54657316f, 0.14437783f, 0.43313345f, 0.29906833f, 0.25781754f, 0.19594133f,
0.27844295f, 0.18562862f, -0.072188914f,
#endif
};
static const int8_t set1_layer0[] = {
10, -58, -66, -32, -104, -57, -103, -65, 1, 39, 21, 15, 99, 80, 45, 44,
};
static const int8_t set1_layer0_nhwc[] = {
10, 92, 97, -33, -58, 60, 106, 39, -66, 75, 43, 58, -32, 42, 54, 55,
};
static const uint8_t set1_layer1[] = {
0, 0, 0, 9, 169, 101, 53, 0, 0, 0, 0, 6, 68, 99, 102, 72,
};
static const uint8_t set1_layer1_nhwc[] = {
0, 97, 134, 59, 17, 0, 71, 20, 0, 26, 69, 0, 71, 0, 76, 101,
};
static const uint8_t set1_layer2[] = {
0, 0, 97, 0, 0, 0, 0, 26, 0, 92, 58, 0, 0, 84, 97, 1,
};
static const uint8_t set1_layer2_nhwc[] = {
0, 0, 0, 64, 78, 70, 106, 22, 0, 92, 49, 102, 137, 52, 0, 121,
};
static const uint8_t set1_layer3[] = {
0, 0, 0, 42, 0, 1, 5, 0, 1, 0, 0, 58, 0, 28, 8, 12,
};
static const uint8_t set1_layer3_nhwc[] = {
0, 0, 15, 0, 27, 30, 27, 0, 0, 142, 0, 0, 0, 58, 0, 0,
};
static const int8_t set1_layer4[] = {
-12, -10, 5, -16, 31, -39, 40, 11, 41, -78, 35, -28, -18, -16, -12, -29,
};
static const int8_t set1_layer4_nhwc[] = {
-12, -4, 15, -6, -10, -13, 8, 7, 5, -8, 32, 2, -16, -54, 47, 51,
};
static const float set1_layer5[] = {
-0.123752415f, -0.103127018f, 0.0515635088f, -0.165003225f, 0.31969374f, -0.40219536f, 0.41250807f,
0.113439716f, 0.42282078f, -0.804390728f, 0.36094457f, -0.28875566f, -0.18562862f, -0.165003225f,
-0.123752415f, -0.29906833f,
};
static const float set1_layer5_nhwc[] = {
-0.123752415f, -0.041250806f, 0.15469052f, -0.061876208f, -0.103127018f, -0.13406512f, 0.0825016126f,
0.072188914f, 0.0515635088f, -0.0825016126f, 0.33000645f, 0.020625403f, -0.165003225f, -0.5568859f,
0.48469698f, 0.5259478f,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0_nhwc}, {(uint32_t)0x48712238UL, (uint32_t)0x6f99f289UL}},
    {{set1_layer1, set1_layer1_nhwc}, {(uint32_t)0xeaf97177UL, (uint32_t)0x9e4f04faUL}},
    {{set1_layer2, set1_layer2_nhwc}, {(uint32_t)0xe871da8aUL, (uint32_t)0x032f29aaUL}},
    {{set1_layer3, set1_layer3_nhwc}, {(uint32_t)0xedb0d6c4UL, (uint32_t)0x4a148383UL}},
    {{set1_layer4, set1_layer4_nhwc}, {(uint32_t)0x149c3e62UL, (uint32_t)0x464928e5UL}},
    {{set1_layer5, set1_layer5_nhwc}, {(uint32_t)0x34be23e0UL, (uint32_t)0x7fd5a38aUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
0.03125f, -0.16015625f, -0.27441406f, -0.009765625f, -0.17285156f, -1.01171875f, -0.8642578f, -0.5498047f,
-0.9892578f, -0.8515625f, -0.736328125f, -1.2939453f, -0.55371094f, -0.9716797f, -1.31933594f, -0.95410156f,
-0.8623047f, -0.17871094f, -0.140625f, -0.8076172f, -0.68066406f, -0.36816406f, -0.25195312f, 0.43847656f,
0.19140625f, 0.25976562f, 0.990234375f, 0.479492188f, 0.8076172f, 0.515625f, 1.4316406f, 1.1357422f,
0.521484375f, 0.5263672f, 0.45507812f, 1.3066406f, 1.03125f, 0.982421875f, 0.1328125f, 0.36035156f,
-0.134765625f, -0.2734375f, 0.049804688f, -0.65527344f, -0.315429688f, -0.81640625f, -0.75f, -1.00878906f,
-1.1015625f, -1.1142578f, -1.40234375f, -1.21777344f, -1.4394531f, -1.29003906f, -0.64746094f, -1.3076172f,
-0.92285156f, -1.17089844f, -0.331054688f, -0.083984375f, 0.14453125f, -0.4765625f, 0.44335938f, 0.078125f,
0.755859375f, 0.888671875f, 0.734375f, 0.94433594f, 0.6533203f, 0.97753906f, 0.572265625f, 1.38378906f,
0.6455078f, 0.88378906f, 0.564453125f, 0.52734375f, 0.58496094f, 0.4140625f, 0.873046875f, 0.85253906f,
-0.025390625f, 0.6953125f, -0.123046875f, -0.083984375f, -0.325195312f, -0.53125f, -0.62597656f, -0.203125f,
-0.7294922f, -0.40722656f, -1.17871094f, -0.701171875f, -1.03222656f, -1.109375f, -1.37402344f, -0.481445312f,
-0.90722656f, -0.697265625f, -0.18066406f, -0.51464844f, -0.021484375f, -0.06640625f, 0.19042969f,
-0.448242188f, 0.387695312f, 0.354492188f, 0.93847656f, 1.0605469f, 0.26660156f, 0.37890625f, 0.607421875f,
1.43359375f, 0.91015625f, 1.12402344f, 0.7080078f, 0.46679688f, 1.0048828f, 0.71875f, 0.260742188f,
0.9482422f, 0.3203125f, 0.78515625f, 0.18359375f, -0.13183594f, 0.17871094f, -0.0078125f, -0.703125f,
-0.224609375f,
};
static const npusim_output set2_output[] = {
-0.14437783f, -0.25781754f, -0.206254035f, -0.123752415f, 0.17531593f, -0.5568859f, 0.17531593f, 0.072188914f,
0.34031916f, -0.7115764f, 0.6600129f, 0.0515635088f, 0.49500966f, -0.72188914f, 0.567198575f, -0.0825016126f,
#ifndef NPUSIM_CHECK_BOUNDED
0.113439716f, -0.46407157f, 0.21656673f, -0.33000645f, -0.113439716f, -0.020625403f, -0.041250806f,
-0.36094457f, 0.0825016126f, -0.29906833f, -0.061876208f, -0.29906833f, -0.15469052f, -0.072188914f,
-0.061876208f, -0.38156995f, 0.0103127016f, -0.165003225f, -0.13406512f, -0.072188914f, -0.29906833f,
-0.37125725f, 0.206254035f, -0.123752415f, -0.6393875f, -0.30938104f, 0.82501614f, -0.567198575f,
-0.783765316f, -0.061876208f, 0.752827227f, -0.6290748f, -0.42282078f, 0.072188914f, 0.47438428f,
-0.33000645f, -0.09281431f, -0.13406512f, 0.18562862f, -0.54657316f, -0.31969374f, -0.0515635088f,
0.165003225f, -0.17531593f, 0.0825016126f, -0.15469052f, 0.0515635088f, -0.26813024f, 0.13406512f,
0.34031916f, 0.123752415f, 0.36094457f, -0.061876208f, 0.072188914f, 0.17531593f, 0.23719214f, -0.515635073f,
-0.40219536f, 0.835328817f, 0.6084494f, -0.54657316f, -0.5259478f, 0.97970665f, 0.515635073f, -0.09281431f,
-0.30938104f, 0.49500966f, 0.37125725f, 0.14437783f, 0.18562862f, 0.123752415f, 0.567198575f, -0.030938104f,
0.030938104f, 0.21656673f, 0.21656673f, 0.206254035f, 0.18562862f, 0.17531593f, 0.46407157f, -0.030938104f,
-0.113439716f, 0.020625403f, 0.15469052f, 0.18562862f, 0.165003225f, 0.0825016126f, 0.47438428f, 0.5053224f,
0.28875566f, 0.46407157f, 0.7631399f, 0.5259478f, 0.19594133f, 0.42282078f, 0.37125725f, 0.17531593f,
0.44344616f, 0.26813024f, 0.0103127016f, -0.0515635088f, -0.020625403f, 0.27844295f, 0.24750483f,
0.072188914f, 0.38156995f, 0.24750483f, -0.0103127016f, -0.13406512f, -0.020625403f, 0.0825016126f,
-0.061876208f,
#endif
};
static const int8_t set2_layer0[] = {
3, -14, -23, -1, -15, -86, -73, -47, -84, -72, -62, -110, -47, -82, -112, -81,
};
static const int8_t set2_layer0_nhwc[] = {
3, 44, 64, -77, -14, 45, 75, -59, -23, 39, 62, -15, -1, 111, 80, -44,
};
static const uint8_t set2_layer1[] = {
0, 0, 0, 0, 0, 0, 35, 63, 101, 75, 111, 160, 146, 139, 8, 123,
};
static const uint8_t set2_layer1_nhwc[] = {
0, 62, 65, 105, 0, 0, 29, 1, 0, 37, 49, 4, 0, 0, 103, 0,
};
static const uint8_t set2_layer2[] = {
38, 0, 0, 0, 0, 0, 74, 0, 0, 2, 46, 47, 18, 0, 0, 0,
};
static const uint8_t set2_layer2_nhwc[] = {
38, 0, 21, 36, 0, 0, 20, 23, 0, 2, 110, 109, 99, 0, 113, 115,
};
static const uint8_t set2_layer3[] = {
9, 0, 0, 0, 0, 34, 4, 14, 0, 5, 0, 48, 0, 7, 0, 27,
};
static const uint8_t set2_layer3_nhwc[] = {
9, 0, 0, 0, 7, 18, 44, 0, 0, 11, 0, 0, 0, 44, 0, 0,
};
static const int8_t set2_layer4[] = {
-14, -25, -20, -12, 17, -54, 17, 7, 33, -69, 64, 5, 48, -70, 55, -8,
};
static const int8_t set2_layer4_nhwc[] = {
-14, 1, 13, -3, -25, -16, 33, -11, -20, -13, 12, 2, -12, -7, 35, 15,
};
static const float set2_layer5[] = {
-0.14437783f, -0.25781754f, -0.206254035f, -0.123752415f, 0.17531593f, -0.5568859f, 0.17531593f, 0.072188914f,
0.34031916f, -0.7115764f, 0.6600129f, 0.0515635088f, 0.49500966f, -0.72188914f, 0.567198575f, -0.0825016126f,
};
static const float set2_layer5_nhwc[] = {
-0.14437783f, 0.0103127016f, 0.13406512f, -0.030938104f, -0.25781754f, -0.165003225f, 0.34031916f,
-0.113439716f, -0.206254035f, -0.13406512f, 0.123752415f, 0.020625403f, -0.123752415f, -0.072188914f,
0.36094457f, 0.15469052f,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0_nhwc}, {(uint32_t)0xb89ff7f7UL, (uint32_t)0x816b23efUL}},
    {{set2_layer1, set2_layer1_nhwc}, {(uint32_t)0xddbedcacUL, (uint32_t)0x949cbd33UL}},
    {{set2_layer2, set2_layer2_nhwc}, {(uint32_t)0x2b02af4aUL, (uint32_t)0x0fd1bbdbUL}},
    {{set2_layer3, set2_layer3_nhwc}, {(uint32_t)0xba4f6df3UL, (uint32_t)0x20653689UL}},
    {{set2_layer4, set2_layer4_nhwc}, {(uint32_t)0xf05227daUL, (uint32_t)0x0768af5eUL}},
    {{set2_layer5, set2_layer5_nhwc}, {(uint32_t)0x9ccb1072UL, (uint32_t)0xe3fbf208UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
-1.1347656f, -0.822265625f, -1.484375f, -0.489257812f, -1.046875f, -0.5966797f, -0.9951172f, -0.45117188f,
-0.418945312f, 0.31054688f, 0.23046875f, 0.22753906f, 0.45703125f, 0.58984375f, 1.0517578f, 0.68652344f,
0.96875f, 1.0341797f, 0.26757812f, 0.22265625f, 0.052734375f, 0.111328125f, -0.7861328f, -0.80078125f,
-0.42871094f, -1.015625f, -1.3203125f, -0.73339844f, -1.1142578f, -0.403320312f, -0.393554688f, -0.24902344f,
-0.346679688f, -0.16699219f, 0.806640625f, 0.787109375f, 0.98046875f, 0.6328125f, 1.23828125f, 0.8857422f,
1.1923828f, 0.26660156f, 0.8671875f, 0.0224609375f, -0.23144531f, 0.16699219f, -0.81152344f, -0.73535156f,
-0.77441406f, -1.25390625f, -0.68652344f, -0.80371094f, -0.487304688f, -0.599609375f, -0.853515625f,
-0.587890625f, -0.34765625f, 0.36523438f, 0.4453125f, 1.0048828f, 0.70996094f, 1.26660156f, 1.20214844f,
0.96972656f, 0.875f, 0.71875f, 0.248046875f, 0.6171875f, 0.0029296875f, -0.0673828125f, -0.25f, -0.49121094f,
-1.01464844f, -0.69140625f, -0.56347656f, -1.28222656f, -1.28515625f, -0.63671875f, -0.48632812f, -0.640625f,
0.140625f, 0.0625f, 0.78027344f, 0.82421875f, 1.2919922f, 0.759765625f, 1.39941406f, 0.6142578f, 1.3203125f,
0.44726562f, 0.5283203f, 0.309570312f, -0.24511719f, 0.21484375f, -0.7998047f, -0.728515625f, -1.3251953f,
-1.1640625f, -0.513671875f, -0.78222656f, -0.541015625f, -0.33789062f, -0.6611328f, -0.50878906f, 0.125f,
0.41601562f, 0.45703125f, 0.33203125f, 0.98535156f, 0.57421875f, 0.6513672f, 0.7421875f, 1.18359375f,
1.17089844f, 0.88378906f, 0.248046875f, 0.224609375f, -0.015625f, -0.013671875f, -0.8623047f, -0.73535156f,
-1.31640625f, -0.89746094f, -0.73828125f, -0.9921875f, -1.0136719f, 0.0029296875f, -0.114257812f,
};
static const npusim_output set3_output[] = {
-0.13406512f, -0.206254035f, -0.26813024f, 0.020625403f, 0.041250806f, -0.30938104f, 0.103127018f,
0.061876208f, 0.14437783f, -0.33000645f, 0.0515635088f, -0.23719214f, -0.030938104f, -0.13406512f,
-0.020625403f, -0.33000645f,
#ifndef NPUSIM_CHECK_BOUNDED
-0.041250806f, -0.26813024f, 0.0f, -0.39188266f, -0.123752415f, -0.24750483f, -0.14437783f, -0.26813024f,
-0.072188914f, -0.23719214f, -0.0515635088f, 0.061876208f, -0.0103127016f, -0.48469698f, 0.206254035f,
-0.21656673f, -0.0103127016f, -0.24750483f, -0.061876208f, -0.21656673f, -0.25781754f, -0.22687943f,
0.23719214f, -0.27844295f, -0.0825016126f, -0.34031916f, 0.030938104f, -0.26813024f, 0.041250806f,
-0.21656673f, 0.09281431f, -0.36094457f, 0.113439716f, -0.13406512f, 0.0515635088f, -0.21656673f,
0.103127018f, -0.17531593f, -0.061876208f, 0.0103127016f, -0.18562862f, -0.40219536f, 0.23719214f,
-0.23719214f, -0.48469698f, -0.34031916f, 0.42282078f, -0.061876208f, 0.103127018f, 0.42282078f, 0.072188914f,
0.27844295f, -0.22687943f, 0.15469052f, 0.38156995f, 0.36094457f, -0.113439716f, 0.30938104f, 0.30938104f,
0.21656673f, 0.23719214f, 0.13406512f, 0.31969374f, 0.28875566f, 0.17531593f, 0.13406512f, 0.21656673f,
0.29906833f, 0.24750483f, 0.25781754f, 0.123752415f, 0.27844295f, -0.0103127016f, 0.31969374f, -0.072188914f,
0.26813024f, -0.6084494f, 0.0515635088f, 0.59813666f, 0.43313345f, -0.020625403f, -0.30938104f, 0.13406512f,
0.15469052f, 0.18562862f, -0.020625403f, 0.35063186f, 0.22687943f, 0.24750483f, -0.072188914f, 0.0515635088f,
0.09281431f, -0.19594133f, 0.103127018f, 0.0f, 0.22687943f, -0.18562862f, 0.21656673f, -0.020625403f,
-0.123752415f, -0.165003225f, -0.103127018f, -0.072188914f, -0.0515635088f, 0.123752415f, -0.123752415f,
0.24750483f, 0.13406512f, 0.37125725f, 0.030938104f, 0.515635073f, 0.061876208f,
#endif
};
static const int8_t set3_layer0[] = {
-96, -70, -126, -42, -89, -51, -84, -38, -36, 26, 20, 19, 39, 50, 89, 58,
};
static const int8_t set3_layer0_nhwc[] = {
-96, -29, 74, -112, -70, -14, 61, -99, -126, 68, 21, -44, -42, 67, 52, -66,
};
static const uint8_t set3_layer1[] = {
0, 0, 0, 0, 0, 0, 97, 69, 88, 19, 0, 0, 0, 0, 0, 0,
};
static const uint8_t set3_layer1_nhwc[] = {
0, 114, 0, 151, 0, 0, 53, 18, 0, 91, 0, 61, 0, 0, 79, 0,
};
static const uint8_t set3_layer2[] = {
32, 0, 0, 12, 0, 0, 0, 0, 14, 52, 0, 11, 0, 0, 0, 60,
};
static const uint8_t set3_layer2_nhwc[] = {
32, 14, 85, 47, 0, 4, 5, 39, 0, 52, 58, 20, 2, 14, 59, 53,
};
static const uint8_t set3_layer3[] = {
7, 24, 19, 37, 41, 13, 0, 14, 0, 0, 0, 0, 0, 52, 27, 46,
};
static const uint8_t set3_layer3_nhwc[] = {
7, 0, 0, 0, 19, 0, 70, 3, 24, 0, 0, 51, 0, 22, 1, 0,
};
static const int8_t set3_layer4[] = {
-13, -20, -26, 2, 4, -30, 10, 6, 14, -32, 5, -23, -3, -13, -2, -32,
};
static const int8_t set3_layer4_nhwc[] = {
-13, -1, 10, -2, -20, -24, 41, -30, -26, -6, 7, 13, 2, -21, 27, 15,
};
static const float set3_layer5[] = {
-0.13406512f, -0.206254035f, -0.26813024f, 0.020625403f, 0.041250806f, -0.30938104f, 0.103127018f,
0.061876208f, 0.14437783f, -0.33000645f, 0.0515635088f, -0.23719214f, -0.030938104f, -0.13406512f,
-0.020625403f, -0.33000645f,
};
static const float set3_layer5_nhwc[] = {
-0.13406512f, -0.0103127016f, 0.103127018f, -0.020625403f, -0.206254035f, -0.24750483f, 0.42282078f,
-0.30938104f, -0.26813024f, -0.061876208f, 0.072188914f, 0.13406512f, 0.020625403f, -0.21656673f, 0.27844295f,
0.15469052f,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0_nhwc}, {(uint32_t)0x82bc97a3UL, (uint32_t)0x6d9280b6UL}},
    {{set3_layer1, set3_layer1_nhwc}, {(uint32_t)0x872e889bUL, (uint32_t)0xef440e87UL}},
    {{set3_layer2, set3_layer2_nhwc}, {(uint32_t)0x287e7ec4UL, (uint32_t)0xd3bea21fUL}},
    {{set3_layer3, set3_layer3_nhwc}, {(uint32_t)0x5e5bfa4dUL, (uint32_t)0x5ff8e3a3UL}},
    {{set3_layer4, set3_layer4_nhwc}, {(uint32_t)0x2ca3539aUL, (uint32_t)0xfbf8a1edUL}},
    {{set3_layer5, set3_layer5_nhwc}, {(uint32_t)0x269167fdUL, (uint32_t)0x361c47b2UL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0x471ec5acUL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0x34be23e0UL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0x9ccb1072UL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0x269167fdUL, set3_layers},
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
