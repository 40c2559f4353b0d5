/* The nets that are tested: every layer, at sizes around a panel of 16 and a group of 64, and chains; those
 * with matrices in every format. And those that are trained. */
#include "check.h"

#include <stdio.h>
#include <string.h>

/* Functions of the gates, of one direction and of the other. */
#define SMOOTH {{TRNN_HARD_SIGMOID, 0.2f, 0.5f}, {TRNN_SOFTSIGN}, {TRNN_SCALED_TANH, 1.1f, 0.7f}}
#define BENT   {{TRNN_SIGMOID}, {TRNN_ELU, 0.6f}, {TRNN_LEAKY_RELU, 0.2f}}
#define OTHERS                                                        \
    {                                                                 \
        {TRNN_THRESHOLDED_RELU, 0.3f}, {TRNN_SOFTPLUS}, { TRNN_RELU } \
    }
#define CURVES     .activations = {SMOOTH, BENT}
#define SMOOTH_TOO {{TRNN_SCALED_TANH, 0.8f, 1.2f}, {TRNN_SOFTPLUS}, {TRNN_AFFINE, 0.7f, 0.1f}}
#define WAVES      .activations = {SMOOTH_TOO, {{TRNN_TANH}, {TRNN_SOFTSIGN}, {TRNN_SIGMOID}}}
/* Gates within 0 .. 1, and no kinks: differences are near the slopes. */
#define BOUNDED                                                                    \
    .activations = {{{TRNN_SIGMOID}, {TRNN_TANH}, {TRNN_SCALED_TANH, 0.8f, 1.2f}}, \
                    {{TRNN_SIGMOID}, {TRNN_SCALED_TANH, 0.8f, 1.2f}, {TRNN_TANH}}}
#define RAMPS .activations = {OTHERS, {{TRNN_TANH}, {TRNN_AFFINE, 0.7f, 0.1f}, {TRNN_TANH}}}, .clip = 0.6f

/* clang-format off: tables, a net a line */
static const model fixed[] = {
    {"lstm without bias", {1, 20}, 1, {RECURRENT(lstm, 20, 24)}},
    {"lstm projected to 1", {1, 3}, 1, {RECURRENT(lstm, 3, 2, .proj_size = 1, .bias = 1)}},
    {"lstm projected to 16", {1, 33}, 1, {RECURRENT(lstm, 33, 40, .proj_size = 16, .bias = 1)}},
    {"lstm projected to 65", {1, 17}, 1, {RECURRENT(lstm, 17, 130, .proj_size = 65)}},
    {"lstm both ways", {1, 16}, 1, {RECURRENT(lstm, 16, 33, .bias = 1, .bidirectional = 1)}},
    {"lstm both ways, projected",
     {1, 9},
     1,
     {RECURRENT(lstm, 9, 66, .proj_size = 17, .bias = 1, .bidirectional = 1)}},
    {"lstm with peepholes", {1, 40}, 1, {RECURRENT(lstm_peephole, 40, 130, .bias = 1)}},
    {"lstm with peepholes, both ways, projected",
     {1, 9},
     1,
     {RECURRENT(lstm_peephole, 9, 66, .proj_size = 17, .bias = 1, .bidirectional = 1)}},
    {"lstm_coupled", {1, 20}, 1, {RECURRENT(lstm_coupled, 20, 130, .bias = 1)}},
    {"lstm_coupled with peepholes", {1, 7}, 1, {RECURRENT(lstm_coupled, 7, 17, .bias = 1, .peephole = 1)}},
    {"lstm_coupled both ways, projected",
     {1, 9},
     1,
     {RECURRENT(lstm_coupled, 9, 20, .proj_size = 4, .bidirectional = 1, .peephole = 1)}},
    {"gru without bias", {1, 20}, 1, {RECURRENT(gru, 20, 24)}},
    {"gru_before", {1, 40}, 1, {RECURRENT(gru_before, 40, 130, .bias = 1)}},
    {"gru_before without bias", {1, 20}, 1, {RECURRENT(gru_before, 20, 24)}},
    {"gru_before both ways", {1, 31}, 1, {RECURRENT(gru_before, 31, 17, .bias = 1, .bidirectional = 1)}},
    {"gru both ways", {1, 31}, 1, {RECURRENT(gru, 31, 17, .bias = 1, .bidirectional = 1)}},
    {"rnn_general", {1, 20}, 1, {RECURRENT(rnn_general, 20, 24, .bias = 1, .bidirectional = 1, CURVES)}},
    {"lstm_general", {1, 40}, 1, {RECURRENT(lstm_general, 40, 130, .bias = 1, CURVES)}},
    {"lstm_general with peepholes, both ways, projected",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 66, .proj_size = 17, .bias = 1, .bidirectional = 1, .peephole = 1, RAMPS)}},
    {"lstm_coupled_general",
     {1, 9},
     1,
     {RECURRENT(lstm_coupled_general, 9, 20, .proj_size = 4, .bidirectional = 1, .peephole = 1, CURVES)}},
    {"lstm_general with layer norm",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 66, .proj_size = 17, .bias = 1, .bidirectional = 1, .peephole = 1,
                .layer_norm = 1, CURVES)}},
    {"gru_general with layer norm",
     {1, 31},
     1,
     {RECURRENT(gru_general, 31, 17, .bias = 1, .layer_norm = 1, CURVES)}},
    {"gru_general", {1, 31}, 1, {RECURRENT(gru_general, 31, 17, .bias = 1, .bidirectional = 1, RAMPS)}},
    {"gru_before_general", {1, 31}, 1, {RECURRENT(gru_before_general, 31, 65, .bias = 1, CURVES)}},
    {"fastgrnn", {1, 33}, 1, {RECURRENT(fastgrnn, 33, 130, .bias = 1, CURVES)}},
    {"fastgrnn of low rank", {1, 33}, 1, {RECURRENT(fastgrnn, 33, 130, .bias = 1, .rank = 17, CURVES)}},
    {"fastgrnn of low ranks, both ways",
     {1, 33},
     1,
     {RECURRENT(fastgrnn, 33, 70, .bias = 1, .bidirectional = 1, .rank = 17, .input_rank = 35, CURVES)}},
    {"lstm_general with matrices for peepholes",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 66, .proj_size = 17, .bias = 1, .bidirectional = 1,
                .peephole = TRNN_PEEPHOLE_MATRIX, RAMPS)}},
    {"lstm_coupled_general with zoneout",
     {1, 9},
     1,
     {RECURRENT(lstm_coupled_general, 9, 33, .bias = 1, .zoneout = 0.25f, .zoneout_cell = 0.5f, CURVES)}},
    {"gru_before_general with zoneout",
     {1, 9},
     1,
     {RECURRENT(gru_before_general, 9, 33, .bias = 1, .bidirectional = 1, .zoneout = 0.25f, CURVES)}},
    {"fastgrnn two ways", {1, 9}, 1, {RECURRENT(fastgrnn, 9, 17, .bidirectional = 1, BOUNDED)}},
    {"lstm_general with clipped cells",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 33, .bias = 1, .bidirectional = 1, .peephole = 1, .cell_clip = 0.2f,
                CURVES)}},
    {"jordan", {1, 20}, 1, {RECURRENT(jordan, 20, 33, .proj_size = 130, .bias = 1, CURVES)}},
    {"jordan two ways", {1, 9}, 1, {RECURRENT(jordan, 9, 66, .proj_size = 17, .bidirectional = 1, WAVES)}},
    {"rnn without bias", {1, 20}, 1, {RECURRENT(rnn, 20, 24)}},
    {"min_gru", {1, 40}, 1, {RECURRENT(min_gru, 40, 130, .bias = 1)}},
    {"min_gru without bias, both ways", {1, 9}, 1, {RECURRENT(min_gru, 9, 17, .bidirectional = 1)}},
    {"min_lstm", {1, 20}, 1, {RECURRENT(min_lstm, 20, 33, .bias = 1)}},
    {"min_lstm both ways", {1, 31}, 1, {RECURRENT(min_lstm, 31, 16, .bias = 1, .bidirectional = 1)}},
    {"qrnn", {1, 17}, 1, {RECURRENT(qrnn, 17, 66, .bias = 1)}},
    {"qrnn both ways, without bias", {1, 5}, 1, {RECURRENT(qrnn, 5, 20, .bidirectional = 1)}},
    {"indrnn", {1, 33}, 1, {RECURRENT(indrnn, 33, 130, .bias = 1)}},
    {"indrnn of relu, both ways",
     {1, 20},
     1,
     {RECURRENT(indrnn, 20, 15, .bias = 1, .bidirectional = 1, .relu = 1)}},
    {"rnn both ways", {1, 65}, 1, {RECURRENT(rnn, 65, 80, .bias = 1, .bidirectional = 1)}},

    {"linear without bias", {1, 40}, 1, {LINEAR(40, 49, 0)}},
    {"linear over 5 rows", {5, 65}, 1, {LINEAR(65, 3, 1)}},
    {"embedding", {1, 1}, 1, {EMBEDDING(65, 37)}},
    {"embedding of 3, flat", {1, 3}, 3, {EMBEDDING(11, 20), PLAIN(flatten), LINEAR(60, 18, 1)}},

    {"conv1d", {4, 37}, 1, {CONV1D(4, 17, 3, 1, 1, 1, 1)}},
    {"conv1d padded", {3, 16}, 1, {CONV1D(3, 65, 5, 1, 1, 1, 1, 2, 2)}},
    {"conv1d strided, dilated", {2, 40}, 1, {CONV1D(2, 16, 4, 3, 2, 1, 1, 3, 5)}},
    {"conv1d reflected", {1, 70}, 1, {CONV1D(1, 33, 16, 8, 1, 1, 0, 0, 12, TRNN_PAD_REFLECT)}},
    {"conv1d in 3 groups", {6, 19}, 1, {CONV1D(6, 51, 3, 1, 1, 3, 1, 1, 1)}},
    {"conv1d depthwise", {20, 9}, 1, {CONV1D(20, 20, 3, 1, 1, 20, 1, 1, 1)}},
    {"conv1d of one tap", {65, 1}, 1, {CONV1D(65, 64, 1, 1, 1, 1, 1)}},
    {"conv1d long, reflected", {3, 83}, 1, {CONV1D(3, 17, 5, 1, 1, 1, 1, 9, 0, TRNN_PAD_REFLECT)}},
    {"conv2d", {9, 11, 3}, 1, {CONV2D(3, 17, 3, 1, 1, 1, 1, 1, 1, 0, 3, 1, 1, 1, 1)}},
    {"conv2d strided, dilated", {15, 14, 2}, 1, {CONV2D(2, 65, 2, 2, 3, 1, 0, 2, 4, 0, 4, 3, 2, 5, 1)}},
    {"conv2d of few positions", {5, 4, 4}, 1, {CONV2D(4, 33, 3, 1, 1, 1, 1, 0, 0, 0, 2, 1, 1, 0, 0)}},
    {"conv2d in 2 groups", {7, 8, 6}, 1, {CONV2D(6, 36, 3, 1, 1, 2, 1, 1, 1, 0, 3, 1, 1, 1, 1)}},
    {"conv2d depthwise", {6, 9, 5}, 1, {CONV2D(5, 10, 3, 1, 1, 5, 1, 1, 1, 0, 3, 1, 1, 1, 1)}},
    {"conv2d of one tap", {3, 3, 20}, 1, {CONV2D(20, 16, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0)}},
    {"transposed", {5, 9}, 1, {TRANSPOSED(5, 6, 4, 2, 1, 1, 1, 1, 1)}},
    {"transposed, in 2 groups", {6, 70}, 1, {TRANSPOSED(6, 4, 3, 3, 2, 2, 0, 0, 2)}},

    {"characters",
     {1, 1},
     5,
     {EMBEDDING(65, 32), RECURRENT(lstm, 32, 48, .bias = 1), RECURRENT(lstm, 48, 48, .bias = 1),
      LINEAR(48, 65, 1), SOFTMAX(log_softmax, 0)}},
    {"pictures of one plane",
     {12, 10, 1},
     7,
     {CONV2D(1, 4, 3, 1, 1, 1, 0, 1, 1, 0, 3, 1, 1, 1, 1), NORM(batch_norm, 4, 1, 1), PLAIN(relu),
      POOL(max_pool, 2, 2, 0, 1, 2, 2, 0, 1), PLAIN(flatten), RECURRENT(gru, 120, 20, .bias = 1),
      LINEAR(20, 5, 1)}},
    {"sound",
     {1, 64},
     7,
     {CONV1D(1, 20, 16, 8, 1, 1, 1, 0, 8, TRNN_PAD_REFLECT), PLAIN(relu), PLAIN(flatten),
      NORM(layer_norm, 160, 1, 1), RECURRENT(gru, 160, 33, .bias = 1), LINEAR(33, 5, 1),
      SOFTMAX(softmax, 0)}},
    {"whole sequences",
     {1, 12},
     7,
     {LINEAR(12, 18, 1), PLAIN(tanh), RECURRENT(lstm, 18, 20, .bias = 1, .bidirectional = 1), PLAIN(identity),
      RECURRENT(rnn, 40, 16, .bias = 1, .relu = 1), NORM(batch_norm, 16, 1, 1), PLAIN(sigmoid)}},
};

static const model plain[] = {
    {"layer norm of 1", {1, 1}, 1, {NORM(layer_norm, 1, 1, 1)}},
    {"layer norm of 17 over 3 rows", {3, 17}, 1, {NORM(layer_norm, 17, 1, 0)}},
    {"layer norm of a whole frame", {4, 33}, 1, {NORM(layer_norm, 132, 1, 1)}},
    {"layer norm, plain", {1, 64}, 1, {NORM(layer_norm, 64, 0, 0)}},
    {"batch norm of columns", {1, 49}, 1, {NORM(batch_norm, 49, 1, 1)}},
    {"batch norm of rows", {18, 21}, 1, {NORM(batch_norm, 18, 1, 1)}},
    {"batch norm, plain", {5, 16}, 1, {NORM(batch_norm, 5, 0, 0)}},
    {"batch norm of planes", {3, 7, 5}, 1, {NORM(batch_norm, 5, 1, 1)}},
    {"group norm of planes", {3, 7, 6}, 1, {NORM(group_norm, 6, 1, 1, .groups = 2)}},
    {"group norm of rows", {6, 17}, 1, {NORM(group_norm, 6, 1, 0, .groups = 6)}},
    {"group norm of columns, plain", {1, 36}, 1, {NORM(group_norm, 36, 0, 0, .groups = 2)}},

    {"max pool", {9, 7, 3}, 1, {POOL(max_pool, 3, 2, 1, 1, 2, 2, 1, 1, 1)}},
    {"max pool, dilated", {5, 19}, 1, {POOL(max_pool, 1, 1, 0, 1, 3, 1, 2, 2)}},
    {"avg pool", {9, 7, 3}, 1, {POOL(avg_pool, 3, 2, 1, 1, 2, 3, 1, 1, 1, 1)}},
    {"avg pool of what there is", {8, 7, 2}, 1, {POOL(avg_pool, 2, 2, 1, 1, 3, 1, 1, 1, 0, 0)}},
    {"avg pool by 3", {8, 7, 2}, 1, {POOL(avg_pool, 2, 2, 1, 1, 3, 1, 1, 1, 0, 0, 3)}},
    {"adaptive max pool", {7, 5, 3}, 1, {ADAPTIVE(adaptive_max_pool, 3, 0)}},
    {"adaptive avg pool", {7, 5, 3}, 1, {ADAPTIVE(adaptive_avg_pool, 1, 8)}},

    {"identity", {2, 9}, 1, {PLAIN(identity)}},
    {"flatten", {3, 7}, 1, {PLAIN(flatten)}},
    {"relu", {1, 33}, 1, {PLAIN(relu)}},
    {"leaky relu", {3, 5}, 1, {LEAKY_RELU(0.01f)}},
    {"sigmoid", {1, 65}, 1, {PLAIN(sigmoid)}},
    {"tanh", {1, 31}, 1, {PLAIN(tanh)}},
    {"prelu", {2, 17}, 1, {PRELU(1)}},
    {"prelu of rows", {3, 9}, 1, {PRELU(3)}},
    {"prelu of columns", {1, 33}, 1, {PRELU(33)}},
    {"elu", {1, 33}, 1, {{TRNN_TRAINED(elu), .as.elu = {1.5f, 1.25f, 0.5f}}}},
    {"gelu", {1, 65}, 1, {PLAIN(gelu)}},
    {"gelu by tanh", {1, 33}, 1, {PLAIN(gelu_tanh)}},
    {"silu", {1, 33}, 1, {PLAIN(silu)}},
    {"mish", {1, 33}, 1, {PLAIN(mish)}},
    {"softplus", {1, 33}, 1, {{TRNN_TRAINED(softplus), .as.softplus = {1.5f, 3.0f}}}},
    {"softsign", {1, 33}, 1, {PLAIN(softsign)}},
    {"tanhshrink", {1, 33}, 1, {PLAIN(tanhshrink)}},
    {"hardtanh", {1, 33}, 1, {{TRNN_TRAINED(hardtanh), .as.clip = {-0.5f, 0.75f}}}},
    {"hardsigmoid", {1, 33}, 1, {PLAIN(hardsigmoid)}},
    {"hardswish", {1, 33}, 1, {PLAIN(hardswish)}},
    {"exp", {1, 33}, 1, {PLAIN(exp)}},
    {"log of abs", {1, 33}, 2, {PLAIN(abs), PLAIN(log)}},
    {"sqrt of abs", {1, 33}, 2, {PLAIN(abs), PLAIN(sqrt)}},
    {"sign", {1, 33}, 1, {PLAIN(sign)}},
    {"reciprocal of neg", {1, 33}, 2, {PLAIN(neg), PLAIN(reciprocal)}},
    {"pow 3", {1, 33}, 1, {POW(3.0f)}},
    {"pow -1.7", {1, 33}, 2, {PLAIN(abs), POW(-1.7f)}},
    {"scale", {1, 33}, 1, {{TRNN_TRAINED(scale), .as.scale = {-1.5f, 0.3f}}}},
    {"clip", {1, 33}, 1, {{TRNN_TRAINED(clip), .as.clip = {-0.5f, 0.75f}}}},
    {"softmax of 1", {1, 1}, 1, {SOFTMAX(softmax, 0)}},
    {"softmax of 65", {2, 65}, 1, {SOFTMAX(softmax, 0)}},
    {"softmax over rows", {19, 4}, 1, {SOFTMAX(softmax, 1)}},
    {"log softmax of 33", {1, 33}, 1, {SOFTMAX(log_softmax, 0)}},
    {"log softmax over rows", {16, 2}, 1, {SOFTMAX(log_softmax, 1)}},
};

/* Trained: every kind of layer, with the options that its way back knows. */
static const model trained[] = {
    {"train lstm", {1, 9}, 1, {RECURRENT(lstm, 9, 33, .bias = 1)}},
    {"train lstm without bias", {1, 17}, 1, {RECURRENT(lstm, 17, 5)}},
    {"train lstm of two levels",
     {1, 5},
     2,
     {RECURRENT(lstm, 5, 20, .bias = 1), RECURRENT(lstm, 20, 16, .bias = 1)}},
    {"train lstm projected", {1, 3}, 1, {RECURRENT(lstm, 3, 18, .proj_size = 7, .bias = 1)}},
    {"train lstm both ways", {1, 16}, 1, {RECURRENT(lstm, 16, 12, .bias = 1, .bidirectional = 1)}},
    {"train lstm both ways, projected",
     {1, 6},
     2,
     {RECURRENT(lstm, 6, 19, .proj_size = 17, .bias = 1, .bidirectional = 1),
      RECURRENT(lstm, 34, 4, .proj_size = 2, .bidirectional = 1)}},
    {"train lstm with peepholes", {1, 9}, 1, {RECURRENT(lstm_peephole, 9, 33, .bias = 1)}},
    {"train lstm with peepholes both ways, projected",
     {1, 6},
     2,
     {RECURRENT(lstm_peephole, 6, 19, .proj_size = 17, .bias = 1, .bidirectional = 1),
      RECURRENT(lstm_peephole, 34, 4, .proj_size = 2, .bidirectional = 1)}},
    {"train lstm_coupled", {1, 9}, 1, {RECURRENT(lstm_coupled, 9, 33, .bias = 1)}},
    {"train lstm_coupled with peepholes both ways",
     {1, 5},
     2,
     {RECURRENT(lstm_coupled, 5, 18, .bias = 1, .bidirectional = 1, .peephole = 1),
      RECURRENT(lstm_coupled, 36, 6, .proj_size = 3, .peephole = 1)}},
    {"train gru", {1, 20}, 1, {RECURRENT(gru, 20, 35, .bias = 1)}},
    {"train gru without bias", {1, 2}, 1, {RECURRENT(gru, 2, 16)}},
    {"train gru_before", {1, 20}, 1, {RECURRENT(gru_before, 20, 35, .bias = 1)}},
    {"train gru_before without bias", {1, 2}, 1, {RECURRENT(gru_before, 2, 16)}},
    {"train gru_before both ways, of two levels",
     {1, 7},
     2,
     {RECURRENT(gru_before, 7, 49, .bias = 1, .bidirectional = 1),
      RECURRENT(gru_before, 98, 6, .bias = 1, .bidirectional = 1)}},
    {"train gru both ways, of two levels",
     {1, 7},
     2,
     {RECURRENT(gru, 7, 17, .bias = 1, .bidirectional = 1),
      RECURRENT(gru, 34, 6, .bias = 1, .bidirectional = 1)}},
    {"train lstm_general with matrices for peepholes",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 33, .bias = 1, .bidirectional = 1, .peephole = TRNN_PEEPHOLE_MATRIX,
                .recurrent_dropout = 0.25f, BOUNDED)}},
    {"train lstm_coupled_general with matrices, projected",
     {1, 5},
     1,
     {RECURRENT(lstm_coupled_general, 5, 18, .proj_size = 7, .peephole = TRNN_PEEPHOLE_MATRIX, BOUNDED)}},
    {"train lstm_general with zoneout",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 33, .bias = 1, .bidirectional = 1, .zoneout = 0.25f, .zoneout_cell = 0.5f,
                BOUNDED),
      RECURRENT(rnn_general, 66, 5, .zoneout = 0.5f, .zoneout_mean = 1, BOUNDED)}},
    {"train gru_before_general with zoneout",
     {1, 7},
     1,
     {RECURRENT(gru_before_general, 7, 35, .bias = 1, .zoneout = 0.25f, .recurrent_dropout = 0.5f, BOUNDED)}},
    {"train lstm, gru with dropped states",
     {1, 7},
     1,
     {RECURRENT(lstm, 7, 20, .bias = 1, .bidirectional = 1, .proj_size = 5, .recurrent_dropout = 0.25f),
      RECURRENT(gru, 10, 17, .bias = 1, .recurrent_dropout = 0.5f)}},
    {"train fastgrnn of low rank",
     {1, 7},
     1,
     {RECURRENT(fastgrnn, 7, 33, .bias = 1, .bidirectional = 1, .rank = 5, .recurrent_dropout = 0.25f,
                BOUNDED)}},
    {"train fastgrnn of low ranks, two levels",
     {1, 7},
     2,
     {RECURRENT(fastgrnn, 7, 33, .bias = 1, .bidirectional = 1, .rank = 5, .input_rank = 3, BOUNDED),
      RECURRENT(fastgrnn, 66, 20, .bias = 1, .input_rank = 18, BOUNDED)}},
    {"train rnn_general", {1, 4}, 1, {RECURRENT(rnn_general, 4, 33, .bias = 1, .bidirectional = 1, CURVES)}},
    {"train lstm_general", {1, 9}, 1, {RECURRENT(lstm_general, 9, 33, .bias = 1, .peephole = 1, CURVES)}},
    {"train lstm_general both ways, projected",
     {1, 6},
     2,
     {RECURRENT(lstm_general, 6, 19, .proj_size = 17, .bias = 1, .bidirectional = 1, WAVES),
      RECURRENT(lstm_general, 34, 4, .proj_size = 2, .peephole = 1, CURVES)}},
    {"train lstm_coupled_general",
     {1, 5},
     1,
     {RECURRENT(lstm_coupled_general, 5, 18, .bias = 1, .bidirectional = 1, .peephole = 1, BOUNDED)}},
    {"train lstm_general with layer norm",
     {1, 9},
     1,
     {RECURRENT(lstm_general, 9, 33, .bias = 1, .bidirectional = 1, .peephole = 1, .layer_norm = 1, WAVES)}},
    {"train gru_general with layer norm",
     {1, 7},
     1,
     {RECURRENT(gru_general, 7, 20, .bias = 1, .bidirectional = 1, .layer_norm = 1, BOUNDED)}},
    {"train gru_general", {1, 7}, 1, {RECURRENT(gru_general, 7, 49, .bias = 1, .bidirectional = 1, CURVES)}},
    {"train gru_before_general",
     {1, 7},
     1,
     {RECURRENT(gru_before_general, 7, 35, .bias = 1, .bidirectional = 1, WAVES)}},
    {"train fastgrnn of two levels",
     {1, 7},
     2,
     {RECURRENT(fastgrnn, 7, 33, .bias = 1, .bidirectional = 1, BOUNDED),
      RECURRENT(fastgrnn, 66, 5, BOUNDED)}},
    {"train jordan of two levels",
     {1, 7},
     2,
     {RECURRENT(jordan, 7, 33, .proj_size = 40, .bias = 1, .bidirectional = 1, BOUNDED),
      RECURRENT(jordan, 80, 9, .proj_size = 5, BOUNDED)}},
    {"train rnn", {1, 4}, 1, {RECURRENT(rnn, 4, 70, .bias = 1)}},
    {"train relu rnn both ways",
     {1, 18},
     1,
     {RECURRENT(rnn, 18, 15, .bias = 1, .bidirectional = 1, .relu = 1)}},

    {"train min_gru of two levels",
     {1, 9},
     2,
     {RECURRENT(min_gru, 9, 33, .bias = 1, .bidirectional = 1), RECURRENT(min_gru, 66, 5)}},
    {"train min_lstm of two levels",
     {1, 4},
     2,
     {RECURRENT(min_lstm, 4, 17, .bias = 1), RECURRENT(min_lstm, 17, 16, .bias = 1, .bidirectional = 1)}},
    {"train qrnn of two levels",
     {1, 6},
     2,
     {RECURRENT(qrnn, 6, 35, .bias = 1, .bidirectional = 1), RECURRENT(qrnn, 70, 3)}},
    {"train indrnn both ways, then one way",
     {1, 12},
     2,
     {RECURRENT(indrnn, 12, 20, .bias = 1, .bidirectional = 1), RECURRENT(indrnn, 40, 7)}},

    {"train linear", {1, 33}, 1, {LINEAR(33, 70, 1)}},
    {"train linear over 3 rows", {3, 17}, 1, {LINEAR(17, 5, 0)}},
    {"train embedding", {1, 2}, 3, {EMBEDDING(11, 9), PLAIN(flatten), LINEAR(18, 4, 1)}},
    {"train embedding with padding",
     {1, 1},
     1,
     {{TRNN_TRAINED(embedding), .as.embedding = {.num_embeddings = 5, .embedding_dim = 17, .padding = 3}}}},
    {"train conv1d strided, dilated", {2, 20}, 1, {CONV1D(2, 17, 3, 2, 3, 1, 1, 3, 5)}},
    {"train conv1d reflected", {1, 12}, 1, {CONV1D(1, 5, 4, 2, 1, 1, 0, 3, 2, TRNN_PAD_REFLECT)}},
    {"train conv1d in 3 groups", {6, 7}, 1, {CONV1D(6, 21, 3, 1, 1, 3, 1, 1, 1)}},
    {"train conv2d", {7, 6, 3}, 1, {CONV2D(3, 17, 3, 2, 1, 1, 1, 1, 1, 0, 2, 1, 2, 2, 0)}},
    {"train conv2d of many positions", {9, 8, 2}, 1, {CONV2D(2, 5, 3, 1, 1, 1, 1, 1, 1, 0, 3, 1, 1, 1, 1)}},
    {"train conv2d depthwise", {5, 6, 4}, 1, {CONV2D(4, 4, 3, 1, 1, 4, 1, 1, 1, 0, 3, 1, 1, 1, 1)}},
    {"train transposed", {5, 9}, 1, {TRANSPOSED(5, 6, 4, 2, 1, 1, 1, 1, 1)}},
    {"train transposed, in 2 groups", {6, 70}, 1, {TRANSPOSED(6, 4, 3, 3, 2, 2, 0, 0, 2)}},
    {"train max pool", {7, 6, 2}, 1, {POOL(max_pool, 3, 2, 1, 1, 2, 2, 1, 1, 1)}},
    {"train avg pool", {7, 6, 2}, 1, {POOL(avg_pool, 3, 2, 1, 1, 2, 3, 1, 1, 1, 0)}},
    {"train adaptive pools",
     {7, 6, 2},
     2,
     {ADAPTIVE(adaptive_max_pool, 4, 0), ADAPTIVE(adaptive_avg_pool, 3, 1)}},
    {"train group norm of planes", {3, 7, 6}, 1, {NORM(group_norm, 6, 1, 1, .groups = 2)}},
    {"train group norm, plain", {6, 17}, 1, {NORM(group_norm, 6, 0, 0, .groups = 6)}},
    {"train batch norm of planes", {3, 2, 3}, 1, {NORM(batch_norm, 3, 1, 1, .momentum = 0.1f)}},
    {"train layer norm", {2, 17}, 1, {NORM(layer_norm, 17, 1, 1)}},
    {"train layer norm, plain", {1, 5}, 1, {NORM(layer_norm, 5, 0, 0)}},
    {"train batch norm of columns", {1, 18}, 1, {NORM(batch_norm, 18, 1, 1, .momentum = 0.1f)}},
    {"train batch norm of rows", {3, 5}, 1, {NORM(batch_norm, 3, 1, 0, .momentum = 0.5f)}},
    {"train batch norm, plain", {2, 3}, 1, {NORM(batch_norm, 2, 0, 0)}},
    {"train batch norm, fixed",
     {3, 5},
     1,
     {NORM(batch_norm, 3, 1, 1, .momentum = 0.5f, .use_running_stats = 1)}},
    {"train rectifiers", {2, 9}, 3, {PLAIN(relu), LINEAR(9, 9, 1), LEAKY_RELU(0.25f)}},
    {"train curves", {2, 9}, 3, {PLAIN(sigmoid), PLAIN(identity), PLAIN(tanh)}},
    {"train prelu of rows", {3, 5}, 1, {PRELU(3)}},
    {"train prelu of columns", {1, 17}, 2, {PRELU(17), PRELU(1)}},
    {"train smooth rectifiers",
     {2, 9},
     6,
     {{TRNN_TRAINED(elu), .as.elu = {1.5f, 1.25f, 0.5f}},
      PLAIN(gelu),
      LINEAR(9, 9, 1),
      PLAIN(gelu_tanh),
      {TRNN_TRAINED(softplus), .as.softplus = {1.5f, 3.0f}},
      PLAIN(mish)}},
    {"train other curves",
     {2, 9},
     6,
     {PLAIN(silu), LINEAR(9, 9, 1), PLAIN(tanhshrink), PLAIN(softsign), PLAIN(hardswish),
      PLAIN(hardsigmoid)}},
    {"train arithmetic",
     {2, 9},
     7,
     {PLAIN(neg),
      {TRNN_TRAINED(scale), .as.scale = {1.5f, 0.3f}},
      {TRNN_TRAINED(clip), .as.clip = {-3.0f, 3.0f}},
      PLAIN(exp),
      {TRNN_TRAINED(hardtanh), .as.clip = {0.125f, 8.0f}},
      POW(1.5f),
      PLAIN(log)}},
    {"train more arithmetic",
     {2, 9},
     6,
     {{TRNN_TRAINED(scale), .as.scale = {0.25f, 4.0f}},
      PLAIN(abs),
      PLAIN(sqrt),
      PLAIN(exp),
      PLAIN(reciprocal),
      POW(2.0f)}},
    {"train dropout", {2, 9}, 2, {{TRNN_TRAINED(dropout), .as.dropout = {0.4f}}, LINEAR(9, 3, 1)}},
    {"train softmax", {2, 17}, 1, {SOFTMAX(softmax, 0)}},
    {"train softmax over rows", {17, 2}, 1, {SOFTMAX(softmax, 1)}},
    {"train log softmax", {1, 33}, 1, {SOFTMAX(log_softmax, 0)}},
    {"train log softmax over rows", {5, 3}, 1, {SOFTMAX(log_softmax, 1)}},

    {"train characters",
     {1, 1},
     6,
     {EMBEDDING(13, 8),
      RECURRENT(lstm, 8, 17, .bias = 1),
      {TRNN_TRAINED(dropout), .as.dropout = {0.2f}},
      RECURRENT(lstm, 17, 12, .bias = 1),
      LINEAR(12, 13, 1),
      SOFTMAX(log_softmax, 0)}},
    {"train pictures",
     {8, 6, 1},
     7,
     {CONV2D(1, 3, 3, 1, 1, 1, 0, 1, 1, 0, 3, 1, 1, 1, 1), NORM(batch_norm, 3, 1, 1, .momentum = 0.1f),
      PLAIN(tanh), POOL(max_pool, 2, 2, 0, 1, 2, 2, 0, 1), PLAIN(flatten), RECURRENT(gru, 36, 7, .bias = 1),
      LINEAR(7, 3, 1)}},
    {"train sound",
     {1, 32},
     7,
     {CONV1D(1, 6, 8, 4, 1, 1, 1, 0, 4, TRNN_PAD_REFLECT), PLAIN(tanh), PLAIN(flatten),
      NORM(layer_norm, 48, 1, 1), RECURRENT(gru, 48, 10, .bias = 1), LINEAR(10, 3, 1), SOFTMAX(softmax, 0)}},
    {"train in stages",
     {1, 6},
     7,
     {LINEAR(6, 9, 1), NORM(batch_norm, 9, 1, 1, .momentum = 0.1f), NORM(batch_norm, 9, 0, 0),
      RECURRENT(gru, 9, 5, .bias = 1, .bidirectional = 1), PLAIN(identity),
      NORM(batch_norm, 10, 1, 1, .momentum = 0.1f), RECURRENT(rnn, 10, 3, .bias = 1)}},
};
/* clang-format on */

enum { FIXED = sizeof fixed / sizeof fixed[0], PLAIN_ONES = sizeof plain / sizeof plain[0] };

static const int32_t sizes[] = {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 130};

/* The last kind has no other formats: its products are the rnn's. */
enum {
    SIZES = sizeof sizes / sizeof sizes[0],
    KINDS = 5,
    FLOATS = KINDS * SIZES + FIXED,
    FORMATTED = (KINDS - 1) * SIZES / 2 + FIXED
};

/* A layer of its own, of a kind and of the size'th size. */
static model single(int32_t kind, int32_t size)
{
    static const char *const names[KINDS] = {"lstm", "gru", "rnn", "linear", "relu rnn"};
    static const trnn_layer_type *const kinds[KINDS] = {&trnn_lstm, &trnn_gru, &trnn_rnn, &trnn_linear,
                                                        &trnn_rnn};
    const int32_t out = sizes[size], in = sizes[(size * 5 + 3) % SIZES];
    model m;
    memset(&m, 0, sizeof m);
    snprintf(m.name, sizeof m.name, "%s %dx%d", names[kind], (int)in, (int)out);
    m.frame.rows = 1;
    m.frame.cols = in;
    m.count = 1;
    m.layers[0].type = kinds[kind];
    if (kinds[kind] == &trnn_linear)
        m.layers[0].as.linear = (trnn_linear_args){in, out, 1};
    else
        m.layers[0].as.recurrent = (trnn_recurrent_args){in, out, 0, 1, 0, kind == KINDS - 1};
    return m;
}

static int has_matrices(const trnn_layer *layer)
{
    const trnn_layer_type *const with[] = {
        &trnn_rnn,       &trnn_lstm,   &trnn_gru,    &trnn_linear,
        &trnn_embedding, &trnn_conv1d, &trnn_conv2d, &trnn_conv_transpose1d};
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++)
        if (layer->type == with[i]) return 1;
    return 0;
}

int model_get(int32_t i, model *m)
{
    memset(m, 0, sizeof *m);
    if (i < FLOATS) {
        *m = i < FIXED ? fixed[i] : single((i - FIXED) / SIZES, (i - FIXED) % SIZES);
        return 1;
    }
    i -= FLOATS;
    if (i < (TRNN_FORMAT_COUNT - 1) * FORMATTED) { /* every second size, the others in the next format */
        const trnn_format format = (trnn_format)(1 + i / FORMATTED);
        const int32_t which = i % FORMATTED, size = 2 * (which - FIXED) + (int32_t)format % 2;
        const model floats = which < FIXED ? fixed[which] : single(size / SIZES, size % SIZES);
        *m = floats;
        snprintf(m->name, sizeof m->name, "%s %.*s", trnn_format_name(format), NAME_ROOM / 2, floats.name);
        for (int32_t l = 0; l < m->count; l++)
            if (has_matrices(&m->layers[l])) m->layers[l].format = format;
        return 1;
    }
    i -= (TRNN_FORMAT_COUNT - 1) * FORMATTED;
    if (i >= PLAIN_ONES) return 0;
    *m = plain[i];
    return 1;
}

int trained_get(int32_t i, model *m)
{
    if (i >= (int32_t)(sizeof trained / sizeof trained[0])) return 0;
    *m = trained[i];
    return 1;
}
