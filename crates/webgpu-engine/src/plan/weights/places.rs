//! Which tensors share a buffer or are cut alike, and where each begins.

use crate::model::{Config, LayerPart, ModelTensor};

/// The matrices whose rows one kernel reads in step with this one's, itself among them.
pub(super) fn cut_alike(tensor: ModelTensor) -> Vec<ModelTensor> {
    match tensor {
        ModelTensor::Layer(layer, LayerPart::Gate | LayerPart::Up) => vec![
            ModelTensor::Layer(layer, LayerPart::Gate),
            ModelTensor::Layer(layer, LayerPart::Up),
        ],
        ModelTensor::Layer(..)
        | ModelTensor::TokenEmbedding
        | ModelTensor::Output
        | ModelTensor::OutputNorm
        | ModelTensor::RopeFactors => vec![tensor],
    }
}

/// Under which name a vector's buffer is kept; none for what stays with the host.
pub(super) fn owner(tensor: ModelTensor) -> Option<ModelTensor> {
    match tensor {
        ModelTensor::RopeFactors => None,
        ModelTensor::Layer(layer, LayerPart::KeyBias | LayerPart::ValueBias) => {
            Some(ModelTensor::Layer(layer, LayerPart::QueryBias))
        }
        ModelTensor::Layer(..)
        | ModelTensor::TokenEmbedding
        | ModelTensor::Output
        | ModelTensor::OutputNorm => Some(tensor),
    }
}

/// Where a vector begins in its buffer, in bytes.
pub(super) fn offset(config: &Config, tensor: ModelTensor) -> u64 {
    match tensor {
        ModelTensor::Layer(_, LayerPart::KeyBias) => 4 * config.query_width(),
        ModelTensor::Layer(_, LayerPart::ValueBias) => {
            4 * (config.query_width() + config.kv_width())
        }
        ModelTensor::Layer(..)
        | ModelTensor::TokenEmbedding
        | ModelTensor::Output
        | ModelTensor::OutputNorm
        | ModelTensor::RopeFactors => 0,
    }
}
