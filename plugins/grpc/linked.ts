/** The descriptors of .proto files for reflection, with the files that each of them imports: proto-loader leaves those out, and no client can use one without them. */
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema, type DescriptorProto, type FileDescriptorProto } from '@bufbuild/protobuf/wkt'

/** What proto-loader makes of a type or a service: all files that it has read, encoded. */
interface Definition { readonly fileDescriptorProtos?: readonly Uint8Array[] }

/** The definitions with linked files; what each has besides is left out. */
export function linked (definitions: Readonly<Record<string, object>>): Record<string, Definition> {
  const files = new Map(Object.values(definitions as Readonly<Record<string, Definition>>).flatMap(({ fileDescriptorProtos = [] }) => fileDescriptorProtos)
    .map(bytes => fromBinary(FileDescriptorProtoSchema, bytes)).map(file => [file.name, file]))
  for (const file of files.values()) {
    const types = typesIn(file)
    file.dependency = [...files.values()].filter(other => other !== file && types.some(type => isIn(other, type))).map(({ name }) => name)
  }
  return { all: { fileDescriptorProtos: [...files.values()].map(file => toBinary(FileDescriptorProtoSchema, file)) } }
}

/** The types that a file's fields and methods name. */
const typesIn = ({ messageType, service }: FileDescriptorProto): string[] => [
  ...messageType.flatMap(fieldTypes), ...service.flatMap(({ method }) => method.flatMap(({ inputType, outputType }) => [inputType, outputType]))
].map(type => type.replace(/^\./, ''))

const fieldTypes = ({ field, nestedType }: DescriptorProto): string[] => [...field.map(({ typeName }) => typeName), ...nestedType.flatMap(fieldTypes)]

/** Types of another package are named in full. */
const isIn = ({ package: name, messageType, enumType }: FileDescriptorProto, type: string): boolean =>
  [...messageType, ...enumType].some(found => `${name}.${found.name}` === type)
