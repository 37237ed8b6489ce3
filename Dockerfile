# Serve a model on processors, or train on NVIDIA GPUs.
#
#   docker build --target serve -t seg-serve .
#   docker run --rm -p 8000:8000 -v "$PWD/runs:/runs" seg-serve /runs/voc_xception65/best.safetensors
#
#   docker build --target train -t seg-train .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/data:/app/data" -v "$PWD/runs:/app/runs" seg-train voc_xception65
#
# Published models are fetched at the first use; keep them between containers with -v seg-cache:/cache.

FROM python:3.12-slim AS serve
ENV SEG_CACHE=/cache PYTHONUNBUFFERED=1
WORKDIR /opt/seg
COPY . .
# PyTorch without CUDA: a tenth of the size.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
 && pip install --no-cache-dir '.[serve,openvino]' \
 && useradd --create-home seg && mkdir /cache && chown seg /cache
USER seg
WORKDIR /app
EXPOSE 8000
ENTRYPOINT ["seg", "serve", "--host", "0.0.0.0", "--port", "8000", "--runtime", "openvino"]

FROM python:3.12-slim AS train
ENV SEG_CACHE=/cache PYTHONUNBUFFERED=1
WORKDIR /opt/seg
COPY . .
# PyTorch's default build for Linux has CUDA.
RUN pip install --no-cache-dir . && mkdir /cache
WORKDIR /app
ENTRYPOINT ["seg", "train"]
