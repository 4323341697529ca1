//! A kernel bound to its buffers, ready to be recorded.

use crate::operator::nonlinearity::Nonlinearity;
use crate::pipeline::Kernel;
use crate::{Error, Gpu};

/// One dispatch.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    grid: [u32; 2],
}

impl Gpu {
    /// `kernel` over `groups` workgroups, `buffers` at its bindings from 0 on.
    pub(crate) fn dispatch(
        &self,
        kernel: Kernel,
        nonlinearity: Nonlinearity,
        groups: u64,
        buffers: &[&wgpu::Buffer],
    ) -> Result<Dispatch, Error> {
        let (pipeline, grid) = (self.pipeline(kernel, nonlinearity)?, self.grid(groups)?);
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bindings = self.scoped("binding buffers", |device, _| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            })
        })?;
        Ok(Dispatch { pipeline, bindings, grid })
    }
}

/// Adds dispatches to an encoder of their device, one after another, as one compute pass.
pub(crate) fn encode(dispatches: &[Dispatch], encoder: &mut wgpu::CommandEncoder) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    for Dispatch { pipeline, bindings, grid: [across, down] } in dispatches {
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bindings, &[]);
        pass.dispatch_workgroups(*across, *down, 1);
    }
}
