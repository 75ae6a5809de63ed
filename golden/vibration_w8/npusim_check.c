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
static const npusim_output set0_output[] = {
-44, 54, 1, -49,
};
static const int8_t set0_layer0[] = {
53, 12, -32, -66, -90, -95, -81, -49, -10, 33, 67, 93, 96, 80, 50, 8,
};
static const int8_t set0_layer0_nhwc[] = {
53, 70, -29, 12, 84, -8, -32, 79, 20, -66, 61, 31, -90, 28, 18, -95,
};
static const uint8_t set0_layer1[] = {
45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 49, 134, 182, 179, 119, 41,
};
static const uint8_t set0_layer1_nhwc[] = {
45, 0, 0, 0, 11, 0, 204, 0, 0, 0, 0, 44, 0, 0, 255, 0,
};
static const uint8_t set0_layer2[] = {
45, 0, 0, 0, 0, 134, 182, 179, 41, 0, 0, 0, 143, 186, 176, 30,
};
static const uint8_t set0_layer2_nhwc[] = {
45, 0, 0, 44, 11, 0, 255, 0, 0, 110, 0, 135, 0, 0, 255, 0,
};
static const uint8_t set0_layer3[] = {
15, 13, 0, 0, 0, 0, 70, 138, 88, 12, 0, 0, 0, 76, 142, 81,
};
static const uint8_t set0_layer3_nhwc[] = {
15, 58, 0, 0, 11, 13, 177, 0, 13, 0, 52, 0, 70, 46, 0, 30,
};
static const uint8_t set0_layer4[] = {
1, 52, 208, 54, 45, 0, 0, 63, 102, 203, 61, 31, 0, 5, 61, 100,
};
static const uint8_t set0_layer4_nhwc[] = {
1, 18, 122, 49, 27, 65, 34, 0, 195, 149, 28, 0, 130, 0, 0, 8,
};
static const uint8_t set0_layer5[] = {
63, 29, 19, 16, 19, 35, 16, 57, 37, 35, 40, 63, 16, 58, 72, 36,
};
static const int8_t set0_layer6[] = {
-44, 54, 1, -49,
};
static const npusim_layer_golden set0_layers[NPUSIM_LAYERS] = {
    {{set0_layer0, set0_layer0_nhwc}, {(uint32_t)0xa45bfb51UL, (uint32_t)0x67d5ece8UL}},
    {{set0_layer1, set0_layer1_nhwc}, {(uint32_t)0xb7900de9UL, (uint32_t)0x08eba1f7UL}},
    {{set0_layer2, set0_layer2_nhwc}, {(uint32_t)0x37e9de80UL, (uint32_t)0x9d8297bfUL}},
    {{set0_layer3, set0_layer3_nhwc}, {(uint32_t)0xb8ee1a1aUL, (uint32_t)0x68a86a6aUL}},
    {{set0_layer4, set0_layer4_nhwc}, {(uint32_t)0xf85102c3UL, (uint32_t)0x6fabeb19UL}},
    {{set0_layer5, set0_layer5}, {(uint32_t)0xbe3eeb23UL, (uint32_t)0xbe3eeb23UL}},
    {{set0_layer6, set0_layer6}, {(uint32_t)0xba548690UL, (uint32_t)0xba548690UL}},
};
#endif
#if NPUSIM_CHECK_SETS > 1
static const npusim_input set1_input[] = {
-0.27294922f, -0.2631836f, -0.21850586f, -0.095703125f, 0.0231933594f, 0.16796875f, 0.232177734f,
0.402587891f, 0.973388672f, 0.18408203f, -0.14794922f, -0.16381836f, -0.1418457f, -0.27270508f, -0.28955078f,
-0.169677734f, -0.071777344f, 0.0263671875f, 0.16918945f, 0.22241211f, 0.33544922f, 0.93725586f, 0.2277832f,
-0.166015625f, -0.15258789f, -0.17602539f, -0.26171875f, -0.286132812f, -0.18652344f, -0.057128906f,
0.028076172f, 0.16333008f, 0.26245117f, 0.30126953f, 0.9699707f, 0.22314453f, -0.14477539f, -0.154296875f,
-0.16308594f, -0.25317383f, -0.26367188f, -0.17285156f, -0.099853516f, 0.052246094f, 0.123535156f,
0.23706055f, 0.2890625f, 0.95874023f, 0.25097656f, -0.14794922f, -0.119873047f, -0.169433594f, -0.22924805f,
-0.286132812f, -0.2019043f, -0.0695800781f, 0.023925781f, 0.13598633f, 0.2121582f, 0.28271484f, 0.97436523f,
0.239746094f, -0.12548828f, -0.12768555f, -0.033203125f, 0.052246094f, 0.09765625f, 0.14331055f, 0.16723633f,
0.10546875f, 0.08642578f, 0.0185546875f, 0.217285156f, -0.088378906f, -0.22143555f, -0.17480469f,
-0.0671386719f, -0.05493164f, 0.045166016f, 0.083496094f, 0.15917969f, 0.17895508f, 0.12866211f, 0.052490234f,
0.041015625f, 0.23803711f, -0.103759766f, -0.21582031f, -0.181152344f, -0.108154297f, -0.045166016f,
0.057617188f, 0.09326172f, 0.17919922f, 0.131347656f, 0.13354492f, 0.0769042969f, 0.0224609375f, 0.228027344f,
-0.12475586f, -0.228759766f, -0.16845703f, -0.103759766f, -0.05102539f, 0.0263671875f, 0.0771484375f,
0.166015625f, 0.138671875f, 0.104736328f, 0.076660156f, 0.0131835938f, 0.24902344f, -0.12158203f, -0.2253418f,
-0.14453125f, -0.0729980469f, -0.05883789f, 0.044433594f, 0.111816406f, 0.17602539f, 0.130859375f,
0.14453125f, 0.0541992188f, 0.020751953f, 0.236572266f, -0.0849609375f, -0.23095703f, -0.17578125f,
1.0756836f, 0.958984375f, 0.887451172f, 0.95043945f, 1.02319336f, 1.11816406f, 1.10839844f, 1.0776367f,
1.4272461f, 0.9621582f, 0.8371582f, 1.0671387f, 1.1542969f, 1.03515625f, 0.9638672f, 0.90234375f, 0.93237305f,
1.0576172f, 1.0722656f, 1.0661621f, 1.0671387f, 1.3901367f, 0.9543457f, 0.88061523f, 1.0673828f, 1.1308594f,
1.0395508f, 0.94384766f, 0.90893555f, 0.90844727f, 1.02978516f, 1.0908203f, 1.11279297f, 1.001709f,
1.4121094f, 0.951416016f, 0.833984375f, 1.0551758f, 1.1220703f, 1.0605469f, 0.912109375f, 0.86938477f,
0.960449219f, 1.0493164f, 1.07543945f, 1.092041f, 1.0119629f, 1.4609375f, 0.974853516f, 0.8383789f,
1.0583496f, 1.10717773f, 1.0280762f, 0.97314453f, 0.897705078f, 0.951416016f, 1.0505371f, 1.1201172f,
1.0810547f, 1.0292969f, 1.46533203f, 0.95410156f, 0.8486328f, 1.05688477f,
};
static const npusim_output set1_output[] = {
4, -73, -13, -31,
};
static const int8_t set1_layer0[] = {
-17, -16, -13, -6, 2, 11, 15, 26, 62, 12, -9, -10, -9, -17, -18, -10,
};
static const int8_t set1_layer0_nhwc[] = {
-17, 3, 3, -16, -5, -3, -13, -9, -7, -6, -13, -3, 2, -15, 0, 11,
};
static const uint8_t set1_layer1[] = {
7, 0, 0, 0, 0, 9, 8, 63, 30, 85, 40, 0, 0, 0, 0, 0,
};
static const uint8_t set1_layer1_nhwc[] = {
7, 30, 0, 29, 0, 0, 26, 0, 0, 38, 12, 40, 30, 4, 9, 20,
};
static const uint8_t set1_layer2[] = {
7, 0, 9, 63, 85, 85, 0, 0, 5, 10, 58, 77, 41, 0, 0, 10,
};
static const uint8_t set1_layer2_nhwc[] = {
7, 38, 12, 40, 30, 4, 26, 20, 0, 38, 20, 40, 49, 15, 9, 40,
};
static const uint8_t set1_layer3[] = {
0, 0, 0, 0, 29, 69, 30, 0, 0, 0, 0, 39, 45, 12, 0, 0,
};
static const uint8_t set1_layer3_nhwc[] = {
0, 44, 1, 0, 48, 34, 184, 3, 0, 0, 0, 17, 21, 24, 94, 0,
};
static const uint8_t set1_layer4[] = {
10, 4, 13, 0, 0, 2, 24, 4, 11, 0, 0, 0, 13, 13, 0, 10,
};
static const uint8_t set1_layer4_nhwc[] = {
10, 41, 150, 0, 23, 62, 1, 0, 116, 143, 34, 0, 140, 0, 0, 0,
};
static const uint8_t set1_layer5[] = {
6, 27, 42, 21, 34, 30, 39, 21, 44, 63, 5, 60, 58, 31, 38, 22,
};
static const int8_t set1_layer6[] = {
4, -73, -13, -31,
};
static const npusim_layer_golden set1_layers[NPUSIM_LAYERS] = {
    {{set1_layer0, set1_layer0_nhwc}, {(uint32_t)0x36a6b87fUL, (uint32_t)0x814aba2eUL}},
    {{set1_layer1, set1_layer1_nhwc}, {(uint32_t)0x5bbf0402UL, (uint32_t)0xb81c1da6UL}},
    {{set1_layer2, set1_layer2_nhwc}, {(uint32_t)0x9a09adc1UL, (uint32_t)0xe51bc69bUL}},
    {{set1_layer3, set1_layer3_nhwc}, {(uint32_t)0x93eb6de8UL, (uint32_t)0xaefd84b6UL}},
    {{set1_layer4, set1_layer4_nhwc}, {(uint32_t)0x5eed77e5UL, (uint32_t)0x015ed8a4UL}},
    {{set1_layer5, set1_layer5}, {(uint32_t)0xab93b5dcUL, (uint32_t)0xab93b5dcUL}},
    {{set1_layer6, set1_layer6}, {(uint32_t)0x86abc04eUL, (uint32_t)0x86abc04eUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 2
static const npusim_input set2_input[] = {
-1.43603516f, -1.4790039f, -1.28271484f, -0.895263672f, -0.4165039f, 0.15698242f, 0.737548828f, 1.14990234f,
1.4001465f, 1.48828125f, 1.3120117f, 0.99975586f, 0.49853516f, -0.0712890625f, -0.6381836f, -1.0979004f,
-1.38623047f, -1.50390625f, -1.3625488f, -1.05322266f, -0.5600586f, -0.036621094f, 0.5744629f, 0.9987793f,
1.34155273f, 1.4609375f, 1.41625977f, 1.0986328f, 0.6442871f, 0.13549805f, -0.45776367f, -0.95654297f,
-1.33862305f, -1.4621582f, -1.4526367f, -1.1413574f, -0.7211914f, -0.19189453f, 0.348632812f, 0.88671875f,
1.2404785f, 1.46533203f, 1.4182129f, 1.2043457f, 0.798828125f, 0.31860352f, -0.30029297f, -0.772705078f,
-1.2397461f, -1.44384766f, -1.4831543f, -1.2429199f, -0.9086914f, -0.394775391f, 0.17578125f, 0.70703125f,
1.1550293f, 1.4108887f, 1.453125f, 1.34228516f, 0.98291016f, 0.47973633f, -0.0793457031f, -0.612548828f,
-0.19580078f, 0.111572266f, 0.4790039f, 0.702636719f, 0.868896484f, 0.89868164f, 0.781738281f, 0.539550781f,
0.2644043f, -0.0590820312f, -0.39331055f, -0.647705078f, -0.8569336f, -0.9182129f, -0.796142578f,
-0.577636719f, -0.30419922f, 0.014892578f, 0.35595703f, 0.6525879f, 0.79467773f, 0.8720703f, 0.81811523f,
0.63916016f, 0.3618164f, 0.0119628906f, -0.30249023f, -0.5817871f, -0.7849121f, -0.8894043f, -0.82421875f,
-0.677978516f, -0.4038086f, -0.0651855469f, 0.23388672f, 0.54589844f, 0.7861328f, 0.89746094f, 0.833984375f,
0.73828125f, 0.45214844f, 0.16430664f, -0.20776367f, -0.5114746f, -0.74316406f, -0.86157227f, -0.88793945f,
-0.7602539f, -0.53344727f, -0.197509766f, 0.14355469f, 0.45239258f, 0.7229004f, 0.87890625f, 0.85839844f,
0.806396484f, 0.5546875f, 0.231933594f, -0.0754394531f, -0.38916016f, -0.68115234f, -0.823486328f,
-0.86376953f, -0.8034668f, 1.2429199f, 0.81469727f, 0.47827148f, 0.42285156f, 0.6977539f, 1.1098633f,
1.5209961f, 1.57958984f, 1.30371094f, 0.901611328f, 0.513916016f, 0.40893555f, 0.662109375f, 1.0734863f,
1.4338379f, 1.595459f, 1.36938477f, 0.96362305f, 0.54296875f, 0.421875f, 0.5900879f, 0.9753418f, 1.3942871f,
1.60961914f, 1.42211914f, 1.0671387f, 0.626953125f, 0.394287109f, 0.521484375f, 0.88549805f, 1.32836914f,
1.6069336f, 1.46606445f, 1.1296387f, 0.681640625f, 0.40844727f, 0.51782227f, 0.86499023f, 1.30371094f,
1.58691406f, 1.5500488f, 1.2180176f, 0.723388672f, 0.47070312f, 0.4506836f, 0.766113281f, 1.1940918f,
1.5202637f, 1.5644531f, 1.2758789f, 0.8239746f, 0.45996094f, 0.448242188f, 0.7302246f, 1.1706543f, 1.4980469f,
1.55371094f, 1.3269043f, 0.8935547f, 0.52319336f, 0.432617188f, 0.66430664f, 1.04248047f, 1.4614258f,
};
static const npusim_output set2_output[] = {
-43, -45, 5, -4,
};
static const int8_t set2_layer0[] = {
-90, -93, -81, -56, -26, 10, 47, 73, 89, 94, 83, 63, 32, -4, -40, -69,
};
static const int8_t set2_layer0_nhwc[] = {
-90, 18, 12, -93, -10, -11, -81, -43, -28, -56, -63, -31, -26, -78, -17, 10,
};
static const uint8_t set2_layer1[] = {
0, 0, 0, 0, 0, 0, 0, 72, 139, 179, 188, 148, 85, 16, 0, 0,
};
static const uint8_t set2_layer1_nhwc[] = {
0, 103, 0, 115, 0, 0, 24, 0, 0, 154, 103, 170, 1, 29, 0, 55,
};
static const uint8_t set2_layer2[] = {
0, 0, 0, 72, 179, 188, 148, 16, 0, 0, 0, 49, 170, 187, 167, 38,
};
static const uint8_t set2_layer2_nhwc[] = {
0, 154, 103, 170, 1, 29, 24, 55, 0, 154, 200, 170, 122, 128, 0, 169,
};
static const uint8_t set2_layer3[] = {
0, 0, 0, 0, 39, 102, 135, 63, 1, 0, 0, 0, 26, 91, 135, 81,
};
static const uint8_t set2_layer3_nhwc[] = {
0, 0, 155, 0, 104, 196, 187, 87, 0, 0, 109, 37, 104, 109, 101, 33,
};
static const uint8_t set2_layer4[] = {
159, 100, 53, 2, 29, 6, 53, 19, 211, 63, 54, 1, 35, 2, 49, 24,
};
static const uint8_t set2_layer4_nhwc[] = {
159, 73, 130, 0, 0, 0, 0, 0, 0, 0, 160, 21, 0, 44, 0, 0,
};
static const uint8_t set2_layer5[] = {
55, 23, 12, 37, 31, 33, 37, 53, 39, 30, 51, 53, 9, 44, 56, 42,
};
static const int8_t set2_layer6[] = {
-43, -45, 5, -4,
};
static const npusim_layer_golden set2_layers[NPUSIM_LAYERS] = {
    {{set2_layer0, set2_layer0_nhwc}, {(uint32_t)0xdb308a2cUL, (uint32_t)0xe71e7900UL}},
    {{set2_layer1, set2_layer1_nhwc}, {(uint32_t)0x035f4420UL, (uint32_t)0x7cde6ed5UL}},
    {{set2_layer2, set2_layer2_nhwc}, {(uint32_t)0x050a81b8UL, (uint32_t)0xdb380c75UL}},
    {{set2_layer3, set2_layer3_nhwc}, {(uint32_t)0x74af4c86UL, (uint32_t)0x494bf243UL}},
    {{set2_layer4, set2_layer4_nhwc}, {(uint32_t)0xdd85ec99UL, (uint32_t)0x1d2327fbUL}},
    {{set2_layer5, set2_layer5}, {(uint32_t)0xe0d72bc4UL, (uint32_t)0xe0d72bc4UL}},
    {{set2_layer6, set2_layer6}, {(uint32_t)0x767d57acUL, (uint32_t)0x767d57acUL}},
};
#endif
#if NPUSIM_CHECK_SETS > 3
static const npusim_input set3_input[] = {
0.14453125f, -0.027832031f, -0.15698242f, -0.236572266f, -0.3371582f, -0.36010742f, -0.27026367f,
-0.18847656f, 0.70092773f, 0.372070312f, 0.07836914f, 0.173339844f, 0.331054688f, 0.36401367f, 0.27856445f,
0.15283203f, -0.024169922f, -0.15161133f, -0.228271484f, -0.30273438f, -0.36254883f, -0.30249023f,
-0.181152344f, 0.709228516f, 0.348632812f, 0.049804688f, 0.14379883f, 0.33569336f, 0.348632812f, 0.254150391f,
0.100341797f, -0.0158691406f, -0.142333984f, -0.23950195f, -0.29638672f, -0.333007812f, -0.28808594f,
-0.16772461f, 0.72216797f, 0.33447266f, 0.0385742188f, 0.19018555f, 0.3581543f, 0.35498047f, 0.27416992f,
0.13574219f, -0.0270996094f, -0.1652832f, -0.27368164f, -0.32495117f, -0.36157227f, -0.31689453f,
-0.22363281f, 0.73217773f, 0.37475586f, 0.040527344f, 0.17285156f, 0.328125f, 0.35766602f, 0.26782227f,
0.142578125f, 0.00048828125f, -0.171875f, -0.27392578f, -0.18408203f, -0.21044922f, -0.158691406f,
-0.14135742f, -0.08569336f, 0.020996094f, 0.130371094f, 0.193603516f, 0.50219727f, 0.30664062f, 0.09033203f,
0.040527344f, 0.041015625f, -0.0390625f, -0.119384766f, -0.17651367f, -0.20043945f, -0.19238281f,
-0.143066406f, -0.0791015625f, -0.00390625f, 0.13012695f, 0.1640625f, 0.5378418f, 0.32250977f, 0.13208008f,
0.028808594f, 0.0031738281f, -0.06591797f, -0.1418457f, -0.213134766f, -0.19116211f, -0.165527344f,
-0.12768555f, -0.06665039f, 0.0134277344f, 0.110351562f, 0.197265625f, 0.512451172f, 0.29077148f, 0.1328125f,
0.021240234f, -0.0112304688f, -0.06982422f, -0.158691406f, -0.21875f, -0.208984375f, -0.186035156f,
-0.10913086f, -0.049316406f, 0.023925781f, 0.08154297f, 0.150878906f, 0.53930664f, 0.31469727f, 0.0827636719f,
0.029296875f, 0.0141601562f, -0.032470703f, -0.13598633f, -0.162597656f, -0.19580078f, -0.18310547f,
-0.12939453f, 0.88427734f, 0.98339844f, 1.0812988f, 1.12890625f, 1.0749512f, 0.954833984f, 0.875732422f,
0.86083984f, 1.4831543f, 1.2504883f, 1.0488281f, 1.04248047f, 1.0498047f, 0.9711914f, 0.89501953f,
0.92456055f, 1.0097656f, 1.08496094f, 1.13549805f, 1.1052246f, 0.95825195f, 0.90234375f, 0.8737793f,
1.4953613f, 1.23828125f, 1.0058594f, 1.00805664f, 1.01464844f, 0.95092773f, 0.888916016f, 0.91674805f,
0.97753906f, 1.09472656f, 1.13061523f, 1.07592773f, 0.987548828f, 0.8815918f, 0.89160156f, 1.50341797f,
1.28881836f, 1.0410156f, 1.01123047f, 1.0004883f, 0.9230957f, 0.90112305f, 0.91967773f, 1.0031738f, 1.078125f,
1.15625f, 1.10009766f, 0.94506836f, 0.86206055f, 0.864013672f, 1.52612305f, 1.2841797f, 1.0493164f, 1.015625f,
1.0197754f, 0.96313477f, 0.859863281f, 0.87939453f, 1.0090332f, 1.0866699f, 1.14575195f,
};
static const npusim_output set3_output[] = {
16, 14, 20, 21,
};
static const int8_t set3_layer0[] = {
9, -1, -10, -15, -21, -22, -17, -12, 44, 24, 5, 11, 21, 23, 18, 10,
};
static const int8_t set3_layer0_nhwc[] = {
9, 17, -7, -1, 19, -2, -10, 14, 4, -15, 13, 6, -21, 8, 3, -22,
};
static const uint8_t set3_layer1[] = {
17, 2, 0, 0, 0, 0, 0, 7, 0, 43, 54, 31, 32, 48, 48, 33,
};
static const uint8_t set3_layer1_nhwc[] = {
17, 13, 0, 6, 6, 0, 70, 0, 2, 6, 0, 25, 0, 0, 76, 0,
};
static const uint8_t set3_layer2[] = {
17, 2, 0, 7, 43, 54, 48, 48, 33, 2, 0, 9, 51, 51, 46, 45,
};
static const uint8_t set3_layer2_nhwc[] = {
17, 13, 0, 25, 6, 0, 76, 0, 2, 38, 0, 39, 0, 0, 76, 0,
};
static const uint8_t set3_layer3[] = {
2, 3, 0, 0, 0, 20, 22, 25, 29, 9, 0, 0, 4, 23, 21, 30,
};
static const uint8_t set3_layer3_nhwc[] = {
2, 84, 0, 0, 11, 13, 177, 0, 3, 12, 0, 0, 30, 15, 0, 6,
};
static const uint8_t set3_layer4[] = {
0, 0, 86, 16, 0, 3, 0, 0, 0, 73, 40, 0, 0, 0, 0, 0,
};
static const uint8_t set3_layer4_nhwc[] = {
0, 20, 103, 54, 49, 67, 56, 0, 170, 143, 29, 0, 143, 0, 0, 0,
};
static const uint8_t set3_layer5[] = {
13, 29, 32, 29, 46, 21, 54, 25, 36, 29, 6, 99, 33, 56, 49, 23,
};
static const int8_t set3_layer6[] = {
16, 14, 20, 21,
};
static const npusim_layer_golden set3_layers[NPUSIM_LAYERS] = {
    {{set3_layer0, set3_layer0_nhwc}, {(uint32_t)0xd0eed55fUL, (uint32_t)0xc9fd5577UL}},
    {{set3_layer1, set3_layer1_nhwc}, {(uint32_t)0xe18ebc86UL, (uint32_t)0xcd8cf9f4UL}},
    {{set3_layer2, set3_layer2_nhwc}, {(uint32_t)0x9860fb6dUL, (uint32_t)0xe9d13997UL}},
    {{set3_layer3, set3_layer3_nhwc}, {(uint32_t)0x3c3135a1UL, (uint32_t)0x581639a5UL}},
    {{set3_layer4, set3_layer4_nhwc}, {(uint32_t)0xa74ac58bUL, (uint32_t)0x54b798f3UL}},
    {{set3_layer5, set3_layer5}, {(uint32_t)0x2c7bbd2dUL, (uint32_t)0x2c7bbd2dUL}},
    {{set3_layer6, set3_layer6}, {(uint32_t)0x38b09637UL, (uint32_t)0x38b09637UL}},
};
#endif

static const npusim_set npusim_sets[NPUSIM_CHECK_SETS] = {
#if NPUSIM_CHECK_SETS > 0
    {set0_input, set0_output, (uint32_t)0xba548690UL, set0_layers},
#endif
#if NPUSIM_CHECK_SETS > 1
    {set1_input, set1_output, (uint32_t)0x86abc04eUL, set1_layers},
#endif
#if NPUSIM_CHECK_SETS > 2
    {set2_input, set2_output, (uint32_t)0x767d57acUL, set2_layers},
#endif
#if NPUSIM_CHECK_SETS > 3
    {set3_input, set3_output, (uint32_t)0x38b09637UL, set3_layers},
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
