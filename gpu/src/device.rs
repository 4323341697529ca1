//! Choosing an adapter and opening it, so that every later failure is a value.

use crate::operator::nonlinearity::Nonlinearity;
use crate::pipeline::Kernel;
use crate::{Choice, Error};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a wait for the device lasts, unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Limits of an adapter that decide which products fit on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one buffer that a kernel can see.
    pub binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Workgroups along one dimension of a dispatch.
    pub groups_per_dimension: u32,
}

impl Limits {
    /// What every WebGPU device grants.
    pub const WEBGPU: Self =
        Self { binding_bytes: 1 << 27, buffer_bytes: 1 << 28, groups_per_dimension: 65_535 };

    fn of(limits: &wgpu::Limits) -> Self {
        Self {
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            groups_per_dimension: limits.max_compute_workgroups_per_dimension,
        }
    }
}

/// What an adapter says of itself; from [`adapters`].
#[derive(Clone, PartialEq, Debug)]
pub struct AdapterInfo {
    /// Its name.
    pub name: String,
    /// The interface it is reached through: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` (a software driver) or `other`.
    pub kind: String,
    /// Driver name and version.
    pub driver: String,
    /// Its limits.
    pub limits: Limits,
    /// Least and most threads of a subgroup, where kernels may use subgroups.
    pub subgroups: Option<[u32; 2]>,
    /// Why the kernels cannot run on it, or `None` when they can.
    pub unfit: Option<String>,
}

/// Which adapter to open. The default takes the best one: discrete before integrated, virtual, unknown, software.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Part of the adapter's name, in any case.
    pub name: Option<String>,
    /// The backend's name (`vulkan`, `metal`, `dx12`), in any case.
    pub backend: Option<String>,
    /// Limits below the adapter's own, to see early what a smaller device would refuse; all others are then the least
    /// that WebGPU grants.
    pub limits: Option<Limits>,
}

/// An open device. A clone is another handle to the same device.
#[derive(Clone, Debug)]
pub struct Gpu {
    inner: Arc<Inner>,
    threads: u32,
    timeout: Duration,
}

#[derive(Debug)]
struct Inner {
    info: AdapterInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    lost: Arc<Mutex<Option<String>>>,
    stray: Arc<Mutex<Option<Error>>>,
    pipelines: Mutex<HashMap<(Kernel, Nonlinearity), wgpu::ComputePipeline>>,
    choices: Mutex<BTreeMap<String, Choice>>,
}

/// Every adapter, best first, those that cannot run the kernels included.
pub fn adapters() -> Vec<AdapterInfo> {
    enumerate().iter().map(describe).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(descriptor);
    let mut found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let flags = adapter.get_downlevel_capabilities().flags;
    let compute = flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
    AdapterInfo::of(adapter.get_info(), &adapter.limits(), adapter.features(), compute)
}

impl AdapterInfo {
    fn of(info: wgpu::AdapterInfo, limits: &wgpu::Limits, features: wgpu::Features, compute: bool) -> Self {
        let needs = [
            ("storage buffers", limits.max_storage_buffers_per_shader_stage, 8),
            ("threads of a workgroup", limits.max_compute_invocations_per_workgroup, 64),
            ("workgroup memory", limits.max_compute_workgroup_storage_size, 8192),
        ];
        let unfit = if compute {
            needs
                .iter()
                .find(|(_, has, needed)| has < needed)
                .map(|(what, has, needed)| format!("{what}: {has}, {needed} needed"))
        } else {
            Some("no compute shaders".to_owned())
        };
        Self {
            name: info.name,
            backend: info.backend.to_str().to_owned(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "cpu",
                wgpu::DeviceType::Other => "other",
            }
            .to_owned(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            limits: Limits::of(limits),
            subgroups: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some([info.subgroup_min_size, info.subgroup_max_size]),
            unfit,
        }
    }
}

impl Selection {
    /// Whether `info` has the name and backend asked for.
    pub fn names(&self, info: &AdapterInfo) -> bool {
        let within = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| text.to_lowercase().contains(&wanted.to_lowercase()))
        };
        within(&self.name, &info.name)
            && self.backend.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&info.backend))
    }

    fn describe(&self) -> String {
        let mut text = String::from("that can run the kernels");
        if let Some(name) = &self.name {
            text += &format!(", with '{name}' in its name");
        }
        if let Some(backend) = &self.backend {
            text += &format!(", on backend '{backend}'");
        }
        text
    }
}

impl Gpu {
    /// Opens the best adapter.
    ///
    /// # Errors
    /// As [`Gpu::with`].
    pub fn new() -> Result<Self, Error> {
        Self::with(&Selection::default())
    }

    /// Opens the best adapter that `selection` accepts; the next one when the best does not open.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] when none is accepted, [`Error::NoDevice`] when none of the accepted opens.
    pub fn with(selection: &Selection) -> Result<Self, Error> {
        let all: Vec<_> = enumerate().into_iter().map(|adapter| (describe(&adapter), adapter)).collect();
        let mut refused = None;
        for (info, adapter) in &all {
            if info.unfit.is_none() && selection.names(info) {
                match Self::open(adapter, info.clone(), selection.limits) {
                    Ok(gpu) => return Ok(gpu),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            let found: Vec<_> = all
                .iter()
                .map(|(info, _)| match &info.unfit {
                    None => format!("{} ({})", info.name, info.backend),
                    Some(reason) => format!("{} ({}; {reason})", info.name, info.backend),
                })
                .collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            Error::NoAdapter { wanted: selection.describe(), found }
        }))
    }

    fn open(adapter: &wgpu::Adapter, mut info: AdapterInfo, cap: Option<Limits>) -> Result<Self, Error> {
        let mut limits = adapter.limits();
        if let Some(cap) = cap {
            info.limits.binding_bytes = info.limits.binding_bytes.min(cap.binding_bytes);
            info.limits.buffer_bytes = info.limits.buffer_bytes.min(cap.buffer_bytes);
            info.limits.groups_per_dimension = info.limits.groups_per_dimension.min(cap.groups_per_dimension);
            limits = wgpu::Limits::default().or_worse_values_from(&limits);
            limits.max_compute_workgroups_per_dimension = info.limits.groups_per_dimension;
            limits.max_storage_buffer_binding_size = info.limits.binding_bytes;
            limits.max_buffer_size = info.limits.buffer_bytes;
            info.subgroups = None;
        }
        let wanted =
            if info.subgroups.is_some() { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("rankbit"),
            required_features: wanted,
            required_limits: limits,
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        }))
        .map_err(|error| Error::NoDevice { adapter: info.name.clone(), reason: error.to_string() })?;
        let gpu = Self::own(info, device, queue);
        let seen = Arc::clone(&gpu.inner.lost);
        gpu.inner.device.set_device_lost_callback(move |reason, message| {
            *lock(&seen) = Some(format!("{reason:?}: {message}"));
        });
        let seen = Arc::clone(&gpu.inner.stray);
        gpu.inner.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&seen).get_or_insert(Error::from_wgpu("an earlier operation", &error));
        }));
        Ok(gpu)
    }

    /// The kernels on a device that the caller opened, and goes on using: buffers and command encoders of the one are
    /// those of the other ([`GpuLinear::workspace_on`](crate::GpuLinear::workspace_on),
    /// [`Workspace::encode`](crate::Workspace::encode)). Its callbacks stay the caller's.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when its limits are too low for the kernels.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self, Error> {
        let info = AdapterInfo::of(device.adapter_info(), &device.limits(), device.features(), true);
        match info.unfit {
            Some(reason) => Err(Error::NoDevice { adapter: info.name, reason }),
            None => Ok(Self::own(info, device, queue)),
        }
    }

    fn own(info: AdapterInfo, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let (lost, stray) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
        // One 8-lane vector is a software driver's whole workgroup; hardware hides latency with more.
        let threads = crate::pipeline::THREADS[usize::from(info.kind != "cpu")];
        let pipelines = Mutex::new(HashMap::new());
        let choices = Mutex::new(BTreeMap::new());
        let inner = Inner { info, device, queue, lost, stray, pipelines, choices };
        Self { inner: Arc::new(inner), threads, timeout: TIMEOUT }
    }

    /// wgpu's device, for buffers and encoders to use with the kernels.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// wgpu's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// How long a wait for the device lasts before it is [`Error::TimedOut`]: two minutes, unless
    /// [`Gpu::with_timeout`] said otherwise.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A handle to the same device whose waits last at most `timeout`.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The adapter this device was opened on, with the limits in force.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.inner.info
    }

    /// Threads of a workgroup in kernels that share one sum among them.
    pub(crate) fn threads(&self) -> u32 {
        self.threads
    }

    /// This device with another number of [`Gpu::threads`], one of [`THREADS`](crate::pipeline::THREADS).
    pub(crate) fn with_threads(&self, threads: u32) -> Self {
        Self { threads, ..self.clone() }
    }

    /// What the tuner found, by product.
    pub(crate) fn tuned(&self) -> MutexGuard<'_, BTreeMap<String, Choice>> {
        lock(&self.inner.choices)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.info.limits
    }

    /// Runs `work`, turning whatever wgpu reports meanwhile into an error.
    pub(crate) fn scoped<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&wgpu::Device, &wgpu::Queue) -> T,
    ) -> Result<T, Error> {
        self.alive()?;
        let (device, queue) = (&self.inner.device, &self.inner.queue);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let value = work(device, queue);
        // On native devices these futures are ready at once.
        let [internal, memory, validation] =
            [internal.pop(), memory.pop(), validation.pop()].map(pollster::block_on);
        if let Some(error) = internal.or(memory).or(validation) {
            return Err(Error::from_wgpu(what, &error));
        }
        self.alive()?;
        Ok(value)
    }

    /// Waits until everything submitted is done, at most [`Gpu::timeout`].
    pub(crate) fn wait(&self, what: &'static str) -> Result<(), Error> {
        let until = wgpu::PollType::Wait { submission_index: None, timeout: Some(self.timeout) };
        match self.scoped(what, |device, _| device.poll(until))? {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(Error::TimedOut { what, limit: self.timeout }),
            Err(error) => Err(Error::Rejected { what, reason: error.to_string() }),
        }
    }

    /// The pipeline of `kernel`, compiled at its first use.
    pub(crate) fn pipeline(
        &self,
        kernel: Kernel,
        nonlinearity: Nonlinearity,
    ) -> Result<wgpu::ComputePipeline, Error> {
        let key = (kernel, nonlinearity);
        if let Some(pipeline) = lock(&self.inner.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.scoped("compiling a kernel", |device, _| kernel.compile(device, nonlinearity))?;
        lock(&self.inner.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles `kernel` now, not at its first use.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn compile(&self, kernel: Kernel) -> Result<(), Error> {
        self.pipeline(kernel, Nonlinearity::None).map(drop)
    }

    fn alive(&self) -> Result<(), Error> {
        if let Some(reason) = lock(&self.inner.lost).clone() {
            return Err(Error::DeviceLost { reason });
        }
        lock(&self.inner.stray).take().map_or(Ok(()), Err)
    }
}

/// What a panicking thread left behind is still whole: every critical section above is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
