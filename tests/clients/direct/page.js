// Uppy 6 with its AWS S3 plugin, as a page has it. Bundled by the test. It sends no headers of its own, so the page's fetch adds the token.
import Uppy from '@uppy/core'
import AwsS3 from '@uppy/aws-s3'

const plain = window.fetch.bind(window)

window.sendFiles = async (endpoint, token, files, single) => {
  window.fetch = (url, options = {}) =>
    plain(url, String(url).startsWith(endpoint) ? { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } } : options)
  const uppy = new Uppy().use(AwsS3, { companionEndpoint: endpoint, shouldUseMultipart: !single })
  return window.told(uppy, files)
}

window.told = async (uppy, files) => {
  for (const { name, size, folder } of files) {
    const bytes = new Uint8Array(size)
    for (let at = 0; at < size; at++) bytes[at] = (at * 7 + (at >> 8)) & 255
    uppy.addFile({ name, type: 'text/plain', data: new File([bytes], name), meta: folder ? { relativePath: `${folder}/${name}` } : { album: 'summer' } })
  }
  const { successful, failed } = await uppy.upload()
  return { successful: successful.map((file) => [file.name, file.uploadURL, file.response?.body?.key]), failed: failed.map((file) => [file.name, file.error]) }
}
